"""Reads programs and libraries (ELF, 64 bits, little-endian): what machine they are for, and what they are linked with.

A foreign program's loader cannot be asked. Source of the layout: elf(5).
"""

import struct
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
_LOAD: Final = 1
_DYNAMIC: Final = 2
_NEEDED: Final = 1
_STRINGS: Final = 5


def is_elf(path: Path) -> bool:
    """Return whether it is a program, a library or a kernel module of any machine."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def needed(path: Path) -> list[str]:
    """Return the names of the libraries that a program or a library is linked with; none if it is static."""
    data = path.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<I4xQQ8xQ", data, table + number * size) for number in range(count)]
    dynamic = [(offset, length) for kind, offset, _, length in segments if kind == _DYNAMIC]
    if not dynamic:
        return []
    [(start, length)] = dynamic
    entries = [struct.unpack_from("<QQ", data, start + at) for at in range(0, length, 16)]
    address = next(value for tag, value in entries if tag == _STRINGS)
    strings = next(
        offset + address - begin
        for kind, offset, begin, length in segments
        if kind == _LOAD and begin <= address < begin + length
    )
    names = [strings + value for tag, value in entries if tag == _NEEDED]
    return [data[at : data.index(b"\0", at)].decode() for at in names]
