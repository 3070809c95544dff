"""What is done with each kind: an install with a power cut, and a look at what it left."""

import time
from typing import Final

from holdfast.base.size import MIB
from lab.final import ZFS_LAYOUTS
from lab.image import installer_image
from tests.lab import kept
from tests.lab.faults.journey import FINAL, INSTALLER, Journey
from tests.lab.matrix.entries import ENTRIES, boot_entries
from tests.lab.matrix.opening import Opener
from tests.lab.matrix.table import Kind, Row, row
from tests.lab.table import Findings

BOOT_S: Final = 1500
PHASE_S: Final = 1800
_DEADLINES: Final = f"\n[cottage.deadlines]\nkexec_return_s = {BOOT_S}\nreboot_return_s = {BOOT_S}\n"
"""Long enough for a machine without KVM that has much other work."""
_STANDBY: Final = (
    "find /boot -iname '*holdfast*' -o -iname '*standby*'; ls -d /nix/.holdfast-standby /.holdfast-standby"
)
LEFT: Final = f"({_STANDBY}) 2>/dev/null || true"
"""Prints what is left of the standby."""
GRUB_CODE: Final = "head -c 440 /dev/disk/by-id/virtio-COTTAGE0001 | grep -c 'GRUB '"
"""Prints 1 if the disk's boot code is GRUB's: its name is in it."""
_MOUNTS: Final = "findmnt -rnv -o TARGET,FSTYPE,SOURCE | grep -E '^/(nix)? ' | sort"


def install_with_power_cut(journey: Journey, kind: Kind, matrix: Findings[Row]) -> None:
    """Install; cut the power when the disk is formatted; check the installed machine; add a row.

    Args:
        journey: the install, not started.
        kind: what is installed.
        matrix: takes the row, also of an install that failed.

    """
    began, standby = time.monotonic(), "-"
    opener = Opener(journey, kind)
    try:
        journey.inventory(opener.bring() + _DEADLINES)
        journey.start(installer_image(with_zfs=True) if kind.layout in ZFS_LAYOUTS else None)
        journey.reach("install", PHASE_S)
        # The image went up once. For UEFI a stub is sent, of which the standby's program is made.
        assert kept.uploaded_bytes(journey.lab) < (MIB if kind.firmware == "UEFI" else 1)
        assert journey.on_machine("cat /sys/class/watchdog/watchdog0/state") == "active"
        with journey.fault(f"power cut, the new disk ({kind.layout}) not bootable yet", "install") as seen:
            journey.lab.power_cycle()
            seen.where = journey.until_where(INSTALLER, BOOT_S)
            assert seen.where == INSTALLER, "the standby did not boot"
            standby = "started"
            seen.recovery = journey.go_on("install", PHASE_S)
        if kind.cut_in_trial:
            _cut_in_trial(journey, kind)
        opener.open(after="restore")  # in the trial
        opener.open(after="trial")
        report = journey.finish(2 * PHASE_S)
        seconds = time.monotonic() - began
        _look(journey, kind)
        journey.lab.power_cycle()
        opener.open()
        assert journey.until_where(FINAL, BOOT_S) == FINAL
        found = row(kind, report, standby=standby, seconds=seconds)
        assert found.trial == "yes", report["phases"]
    except BaseException as error:
        outcome = f"FAILED: {error}"[:200]
        spent = round(time.monotonic() - began, 1)
        matrix.add(Row(kind.firmware, kind.boot_loader, kind.root, outcome, standby, "-", spent))
        raise
    matrix.add(found)


def _cut_in_trial(journey: Journey, kind: Kind) -> None:
    """Cut the power when the new system runs in its trial, before it has its boot loader."""
    journey.past("restore")
    with journey.fault(f"power cut in the trial, the root on {kind.root}", "trial") as seen:
        assert journey.until_where(FINAL, BOOT_S) == FINAL, "the trial did not begin"
        with journey.held():  # on the tailnet it comes later
            assert journey.on_machine(LEFT) != "", "the standby is gone already"
            journey.lab.power_cycle()
        seen.where = journey.until_where(INSTALLER, BOOT_S)
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("trial", PHASE_S)


def _look(journey: Journey, kind: Kind) -> None:
    """Check what the install has left on the machine."""
    assert journey.on_machine(_MOUNTS) == kind.mounts
    assert journey.on_machine(LEFT) == "", "the standby is still there"
    if kind.entry:
        assert journey.on_machine("cat /sys/firmware/efi/fw_platform_size") == "64"
        assert boot_entries(journey.on_machine(ENTRIES))[0] == kind.entry
    elif kind.boot_loader == "GRUB":
        assert journey.on_machine(GRUB_CODE) == "1"
        assert journey.on_machine("find /boot -name '*linux.sys'") == ""
