"""BIOS and GRUB: the standby stays until the first boot is proved. GRUB is broken on purpose in one install."""

import pytest

from lab import qemu
from lab.final import flake_dir
from tests.lab.faults.journey import FINAL, INSTALLER
from tests.lab.matrix.conftest import Begin
from tests.lab.matrix.row import GRUB_CODE, LEFT

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

SWITCH = "scripts/boot-grub.sh"
# What GRUB's boot code starts, right behind the first sector; and the kernel: GRUB then waits for somebody.
NO_CORE = 'dd if=/dev/zero of="$(readlink -f @disk@)" bs=512 seek=1 count=64 conv=notrunc,fsync\n'
NO_KERNEL = "rm /boot/kernels/kernel\nsync\n"


@pytest.mark.parametrize(
    ("fault", "broken"),
    [("GRUB has no core", NO_CORE), ("GRUB finds no kernel", NO_KERNEL)],
    ids=["no core", "no kernel"],
)
def test_grub_that_is_broken_leads_to_the_installer(begin: Begin, fault: str, broken: str) -> None:
    with begin("grub", qemu.BIOS) as journey:
        switch = journey.lab.run_dir / "flake" / SWITCH
        switch.write_text(switch.read_text() + broken)
        journey.deadlines(reboot_return_s=400)
        journey.start()
        journey.past("trial", 1800)
        with journey.fault(f"{fault} (a power cycle)", "verify") as seen:
            journey.past("reboot")
            journey.wait(90)  # the firmware, extlinux, and GRUB, which finds nothing
            journey.lab.power_cycle()
            seen.where = journey.until_where(INSTALLER, 600)
            assert seen.where == INSTALLER
            assert "which its trial has proved: the machine is in the installer again" in journey.ended("FAILED")
            flake_dir(journey.lab.run_dir, "grub")
            seen.recovery = "corrected flake, fresh run"
            journey.start()
            report = journey.finish()
        assert {phase["name"]: phase["outcome"] for phase in report["phases"]}["trial"] == "done"
        assert journey.on_machine(LEFT) == ""
        assert journey.on_machine(GRUB_CODE) == "1"
        journey.lab.power_cycle()
        assert journey.until_where(FINAL) == FINAL
