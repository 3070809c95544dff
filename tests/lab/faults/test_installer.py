"""The installer does not start, or does not come back."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from lab.image import installer_image
from tests.lab.faults.journey import INSTALLER, ORIGIN, Journey, local_way

pytestmark = [pytest.mark.lab, pytest.mark.faults]

_DAMAGE: Final = """
systemctl stop tailscaled
echo broken >/var/lib/tailscale/tailscaled.state
systemctl start tailscaled || true
"""


def _image_with_a_broken_kernel(into: Path) -> Path:
    folder = into / "broken"
    folder.mkdir()
    subprocess.run(["tar", "-C", str(folder), "-xf", str(installer_image())], check=True)
    kernel = folder / "kexec" / "bzImage"
    content = bytearray(kernel.read_bytes())
    # Without LOADED_HIGH of loadflags (the kernel's Documentation/arch/x86/boot.rst) it still looks like an x86 kernel
    # to Holdfast, but kexec cannot load it.
    content[0x211] &= ~1
    kernel.write_bytes(content)
    archive = into / "broken.tar"
    subprocess.run(["tar", "-C", str(folder), "-cf", str(archive), "kexec"], check=True)
    shutil.rmtree(folder)
    return archive


def _too_little_memory(journey: Journey) -> None:
    with journey.fault("too little memory for the image (256 MiB)", "preflight") as seen:
        with journey.memory(256):
            journey.start()
            assert "memory" in journey.ended("FAILED").lower()
            seen.where = journey.where()
        seen.recovery = "refused; more memory"


def _kernel_does_not_load(journey: Journey, folder: Path) -> None:
    with journey.fault("kexec does not load the kernel", "kexec") as seen:
        journey.start(image=_image_with_a_broken_kernel(folder))
        assert "kexec could not load the installer" in journey.ended("FAILED")
        seen.where = journey.where()
        assert seen.where == ORIGIN
        assert journey.on_machine("cat /sys/kernel/kexec_loaded") == "0"
        journey.origin_is_clean()
        journey.start()
        journey.reach("reconnect")
        seen.recovery = "fresh run, sound image"


def _kernel_panics(journey: Journey) -> None:
    with journey.fault("the installer's kernel panics", "reconnect") as seen:
        with journey.held():
            assert journey.until_where(INSTALLER) == INSTALLER
            journey.on_machine("(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &")
        seen.where = journey.until_where(ORIGIN)
        assert "came back in its origin" in journey.ended("FAILED")
        journey.origin_is_clean()
        # The next two faults each wait until a deadline is over.
        journey.deadlines(kexec_return_s=150, dead_man_s=180)
        journey.retry()
        journey.until_kexec_run()
        seen.recovery = "by itself (panic=30), Retry"


def _flow_dies_in_kexec_run(journey: Journey) -> None:
    with journey.fault("flow killed (-9) while kexec/run works", "kexec") as seen:
        journey.kill_flow()
        seen.where = journey.where()
        journey.retry()
        journey.reach("reconnect")
        seen.recovery = "Retry"


def _back_by_the_dead_man(journey: Journey) -> str:
    """Check that the run gives up, and that the dead-man brings the origin back, on the tailnet."""
    assert "dead-man" in journey.ended("FAILED")
    found = journey.until_where(ORIGIN)
    assert found == ORIGIN
    journey.lab.wait_for_ssh()
    journey.origin_is_clean()
    return found


def _state_is_damaged(journey: Journey) -> None:
    with journey.fault("Tailscale state damaged in the installer", "reconnect") as seen:
        with journey.held():
            assert journey.until_where(INSTALLER) == INSTALLER
            journey.on_machine(_DAMAGE)
        seen.where = _back_by_the_dead_man(journey)
        journey.retry()
        journey.reach("reconnect")
        seen.recovery = "by itself (dead-man), Retry"


def _key_expires(journey: Journey, local: str) -> None:
    # tailscaled makes a new node key when it starts with an expired one: extending the old key then is too late.
    with journey.fault("node key expired between preflight and reconnect", "reconnect") as seen:
        with journey.expired_key():
            assert journey.until_where(INSTALLER) == INSTALLER
        seen.where = _back_by_the_dead_man(journey)
        journey.inventory("go_on_over_local = true\n", local=local)  # for the last fault
        journey.retry()
        journey.reach("reconnect")
        seen.recovery = "key extended, by itself (dead-man), Retry"


def _only_the_local_address_answers(journey: Journey) -> None:
    with journey.fault("the tailnet never returns, the local address answers", "reconnect") as seen:
        with journey.held():
            seen.where = journey.until_where(INSTALLER)
            journey.on_machine("systemctl mask --runtime --now tailscaled")
        seen.recovery = journey.go_on("reconnect")


def test_installer_does_not_come_back(journey: Journey, tmp_path: Path) -> None:
    _too_little_memory(journey)
    _kernel_does_not_load(journey, tmp_path)
    _kernel_panics(journey)
    _flow_dies_in_kexec_run(journey)
    _state_is_damaged(journey)
    with local_way(journey.lab) as address:
        _key_expires(journey, address)
        _only_the_local_address_answers(journey)
        journey.finish()
