"""A machine with UEFI firmware: an EFI system partition of 500 MB, and systemd-boot. The power is cut in `install`."""

import base64
import struct

import pytest

from lab import qemu
from tests.lab.faults.journey import FINAL
from tests.lab.layouts.conftest import Begin
from tests.lab.layouts.power_cut import power_is_cut_after_formatting

pytestmark = [pytest.mark.lab, pytest.mark.layouts]

ENTRIES = """
cd /sys/firmware/efi/efivars
for file in BootOrder-* Boot0*; do echo "${file%%-*} $(base64 <$file | tr -d '\\n')"; done
"""


def boot_entries(said: str) -> list[str]:
    """Return the names of the firmware's boot entries, in their order (UEFI specification, 3.1.3).

    Each variable begins with four bytes for its own attributes. In an entry come four for the entry's attributes and
    two for a length, and then its name in UTF-16.
    """
    variables = {name: base64.b64decode(text)[4:] for name, text in map(str.split, said.splitlines())}
    order = struct.iter_unpack("<H", variables["BootOrder"])
    return [variables[f"Boot{number:04X}"][6:].decode("utf-16-le", "replace").partition("\0")[0] for (number,) in order]


def test_power_is_cut_after_formatting_on_a_machine_with_uefi(begin: Begin) -> None:
    with begin("efi", qemu.UEFI) as journey:
        assert journey.on_machine("cat /sys/firmware/efi/fw_platform_size") == "64"
        power_is_cut_after_formatting(journey, "efi")
        assert journey.on_machine("findmnt -rn -o FSTYPE,LABEL /boot") == "vfat BOOT"
        # bootctl's own name for systemd-boot.
        assert boot_entries(journey.on_machine(ENTRIES))[0] == "Linux Boot Manager"
        journey.lab.power_cycle()
        assert journey.until_where(FINAL, 600) == FINAL
