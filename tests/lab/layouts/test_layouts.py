"""Layouts of a machine with a BIOS: /boot in the root, btrfs, LVM. The power is cut in `install` of each."""

import pytest

from lab import qemu
from tests.lab.layouts.conftest import Begin
from tests.lab.layouts.power_cut import power_is_cut_after_formatting

pytestmark = [pytest.mark.lab, pytest.mark.layouts]


@pytest.mark.parametrize(
    ("layout", "root"),
    [
        ("bios-root", "/ ext4 /dev/vda2"),
        ("btrfs", "/ btrfs /dev/vda2\n/nix btrfs /dev/vda2"),
        ("lvm", "/ ext4 /dev/pool/root"),
    ],
)
def test_power_is_cut_after_formatting(begin: Begin, layout: str, root: str) -> None:
    with begin(layout, qemu.BIOS) as journey:
        power_is_cut_after_formatting(journey, layout)
        seen = "findmnt -rnv -o TARGET,FSTYPE,SOURCE | grep -E '^/(nix)? ' | sort"
        assert journey.on_machine(seen) == root
