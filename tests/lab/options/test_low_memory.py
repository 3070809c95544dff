"""A whole install of a machine with little memory: what an image of the lab needs at least, with its swap in RAM."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import SubprocessError

import pytest

from lab.flow_runs import ended, report_of, start
from lab.operator import Operator
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.options]

MEMORY_MIB = 448
INSTALLER = "/run/holdfast/installer.json"
LOOK = ["sh", "-c", f"test -e {INSTALLER} && cat /proc/meminfo"]


@pytest.fixture(autouse=True)
def little_memory(lab: Lab) -> Iterator[None]:
    lab.start_over()
    lab.power_off()
    lab.power_on(memory_mib=MEMORY_MIB)
    lab.wait_for_ssh()
    yield
    lab.start_over()


@contextmanager
def memory_of_installer(lab: Lab) -> Iterator[list[dict[str, int]]]:
    """Look at the installer's memory while the body runs, as often as it answers: /proc/meminfo, in KiB."""
    seen: list[dict[str, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(3):
            try:
                said = lab.ssh_local(LOOK)
            except SubprocessError:
                continue
            seen.append({name: int(number) for name, number in re.findall(r"(?m)^(\w+): +(\d+) kB$", said)})

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


def test_install_with_little_memory(lab: Lab, operator: Operator) -> None:
    with memory_of_installer(lab) as seen:
        run_id = start(operator)
        run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(operator, run_id)
    assert report["closure"]["built"] == report["closure"]["booted"]
    assert report["identity"]["final"] == report["identity"]["origin"]
    assert seen
    assert all(look["SwapTotal"] >= look["MemTotal"] - 1024 for look in seen[1:]), "its swap in RAM is on"
    print(f"least MemAvailable in the installer: {min(look['MemAvailable'] for look in seen) // 1024} MiB")
