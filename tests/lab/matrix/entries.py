"""The boot entries of a UEFI firmware, read on the machine by other means than Holdfast's own."""

import base64
import struct
from typing import Final

ENTRIES: Final = """
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
