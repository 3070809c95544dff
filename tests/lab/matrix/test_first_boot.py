"""UEFI: the standby stays until the first boot is proved. The new system's boot loader is broken on purpose."""

import pytest

from lab import qemu
from lab.final import flake_dir
from tests.lab.faults.journey import FINAL, INSTALLER
from tests.lab.matrix.conftest import Begin
from tests.lab.matrix.entries import ENTRIES, boot_entries
from tests.lab.matrix.row import LEFT

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

SWITCH = "scripts/boot-systemd-boot.sh"
# In place of systemd-boot: what no firmware can start. And a kernel that is not there: systemd-boot waits for somebody.
GARBAGE = "for file in systemd/systemd-bootx64.efi BOOT/BOOTX64.EFI; do echo garbage >/boot/EFI/$file; done\nsync\n"
NO_KERNEL = 'rm "/boot/EFI/nixos/$name-kernel.efi"\nsync\n'


@pytest.mark.parametrize(("broken", "cycles"), [(GARBAGE, 0), (NO_KERNEL, 1)], ids=["garbage", "no kernel"])
def test_boot_loader_that_is_broken_leads_to_the_installer(begin: Begin, broken: str, cycles: int) -> None:
    with begin("efi", qemu.UEFI) as journey:
        before = boot_entries(journey.on_machine(ENTRIES))
        switch = journey.lab.run_dir / "flake" / SWITCH
        switch.write_text(switch.read_text() + broken)
        journey.deadlines(reboot_return_s=400)
        journey.start()
        journey.past("trial", 1800)
        with journey.fault(
            f"the boot loader starts nothing ({'a power cycle' if cycles else 'by itself'})", "verify"
        ) as seen:
            if cycles:
                journey.past("reboot")
                journey.wait(90)  # the firmware, and systemd-boot, which finds no kernel
                journey.lab.power_cycle()
            seen.where = journey.until_where(INSTALLER, 600)
            assert seen.where == INSTALLER
            assert "which its trial has proved: the machine is in the installer again" in journey.ended("FAILED")
            assert boot_entries(journey.on_machine(ENTRIES))[0] == "Holdfast standby"
            flake_dir(journey.lab.run_dir, "efi")
            seen.recovery = "corrected flake, fresh run"
            journey.start()
            report = journey.finish()
        assert report["efi"]["before"] is None  # a fresh run, which began in the installer
        assert [entry.split(" ", 1)[1] for entry in report["efi"]["after"]["entries"]].count(
            "Linux Boot Manager (disk)"
        ) == 1
        assert {phase["name"]: phase["outcome"] for phase in report["phases"]}["trial"] == "done"
        names = boot_entries(journey.on_machine(ENTRIES))
        assert names[0] == "Linux Boot Manager"
        assert [name for name in names if name != "Linux Boot Manager"] == before
        assert journey.on_machine(LEFT) == ""
        journey.lab.power_cycle()
        assert journey.until_where(FINAL, 600) == FINAL
