"""Kernel, initrd and command line as one EFI program, which a firmware starts by itself: a unified kernel image.

systemd's EFI stub (systemd-stub(7)) starts what lies in the sections `.linux`, `.initrd` and `.cmdline` of its own
file. They are appended here as `ukify` does it: each at an address of its own after all others, the kernel last.
Source of the layout: "PE Format", https://learn.microsoft.com/windows/win32/debug/pe-format
"""

import struct
from typing import Final

from holdfast.base.errors import ConfigError

_PE32_PLUS: Final = 0x20B
_HEADER_BYTES: Final = 40
_MOST_SECTIONS: Final = 96
# IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ
_READ_ONLY_DATA: Final = 0x40000040


def one_program(stub: bytes, *, command_line: str, initrd: bytes, kernel: bytes) -> bytes:
    """Return the EFI program.

    Args:
        stub: systemd's EFI stub for the machine.
        command_line: the kernel's command line.
        initrd: what the kernel unpacks.
        kernel: the kernel, itself an EFI program (`CONFIG_EFI_STUB`).

    Raises:
        ConfigError: the stub is not an EFI program for 64 bits, or its header has no room for three more sections.

    """
    sections = {".cmdline": command_line.encode(), ".initrd": initrd, ".linux": kernel}
    try:
        return _with_sections(stub, sections)
    except (struct.error, IndexError, ValueError) as error:
        raise ConfigError(f"the image's EFI stub cannot be used: {error}.") from error


def _with_sections(stub: bytes, sections: dict[str, bytes]) -> bytes:
    program = bytearray(stub)
    (pe,) = struct.unpack_from("<I", program, 0x3C)
    if program[:2] != b"MZ" or program[pe : pe + 4] != b"PE\0\0":
        raise ValueError("it is no EFI program")
    count, optional_bytes = struct.unpack_from("<2xH12xH", program, pe + 4)
    optional = pe + 24
    magic, image_alignment, file_alignment = struct.unpack_from("<H30xII", program, optional)
    if magic != _PE32_PLUS or not image_alignment or not file_alignment or not 0 < count <= _MOST_SECTIONS:
        raise ValueError("it is no EFI program for 64 bits")
    image_bytes, headers_bytes = struct.unpack_from("<II", program, optional + 56)
    table = optional + optional_bytes
    first_raw = min(raw for raw in _column(program, table, count, 20) if raw)
    if table + (count + len(sections)) * _HEADER_BYTES > min(headers_bytes, first_raw):
        raise ValueError("its header has no room for more sections")
    for name, content in sections.items():
        address = _up(image_bytes, image_alignment)
        program += bytes(-len(program) % file_alignment)
        raw_bytes = _up(len(content), file_alignment)
        header = struct.pack(
            "<8sIIII12xI", name.encode(), len(content), address, raw_bytes, len(program), _READ_ONLY_DATA
        )
        at = table + count * _HEADER_BYTES
        program[at : at + _HEADER_BYTES] = header
        program += content
        program += bytes(raw_bytes - len(content))
        image_bytes = _up(address + len(content), image_alignment)
        count += 1
    struct.pack_into("<H", program, pe + 6, count)
    struct.pack_into("<I", program, optional + 56, image_bytes)
    struct.pack_into("<I", program, optional + 64, 0)  # the checksum is optional: the old one is wrong now
    return bytes(program)


def _column(program: bytearray, table: int, count: int, offset: int) -> list[int]:
    return [struct.unpack_from("<I", program, table + row * _HEADER_BYTES + offset)[0] for row in range(count)]


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
