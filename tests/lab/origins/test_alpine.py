"""An origin that stands in for Alpine: busybox is all of its userland and its PID 1; no systemd, no udev, no lsblk."""

from collections.abc import Iterator

import pytest

from lab import alpine, qemu
from lab.operator import Operator
from lab.runtime import Lab
from tests.lab.origins.whole_runs import install, rehearse

pytestmark = [pytest.mark.lab, pytest.mark.origins]

# Prints the programs and folders of other systems that are there.
OTHERS = """
for name in systemctl systemd-run udevadm lsblk findmnt bash install flock nohup; do command -v "$name"; done
for path in /run/systemd /run/udev /dev/disk; do [ ! -e "$path" ] || echo "$path"; done
"""


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Lab]:
    with lab.other_machine(qemu.BIOS, alpine.disk()):
        yield lab


def test_origin_has_nothing_but_busybox(machine: Lab) -> None:
    assert machine.ssh_local(["sh", "-s"], stdin=OTHERS) == ""
    for program in ("/proc/1/exe", "/bin/sh", "/sbin/reboot"):
        assert machine.ssh_local(["readlink", "-f", program]).strip() == "/bin/busybox"


def test_rehearsal_returns_to_it(machine: Lab, operator: Operator) -> None:
    assert rehearse(operator) == machine.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]).strip()


def test_install_from_there(machine: Lab, operator: Operator) -> None:
    install(machine, operator)
