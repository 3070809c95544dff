"""EFI programs for tests: a stub without code, and what is in the sections of a program."""

import struct

ALIGNMENT, IMAGE_ALIGNMENT = 0x200, 0x1000


def make_stub(*, magic: int = 0x20B, headers_bytes: int = 0x400, sections: int = 2) -> bytes:
    """Return a PE file with some sections of 16 bytes, and a header of that size."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, magic)
    struct.pack_into("<II", optional, 32, IMAGE_ALIGNMENT, ALIGNMENT)
    struct.pack_into("<II", optional, 56, IMAGE_ALIGNMENT * (sections + 1), headers_bytes)
    struct.pack_into("<I", optional, 64, 0xBAD)
    made = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)).ljust(0x80, b"\0")
    made += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, sections, 0, 0, 0, len(optional), 0x22) + optional
    for number in range(sections):
        place = (16, IMAGE_ALIGNMENT * (number + 1), ALIGNMENT, headers_bytes + ALIGNMENT * number)
        made += struct.pack("<8sIIII12xI", b".s%d" % number, *place, 0x60000020)
    made = made.ljust(headers_bytes, b"\0")
    for number in range(sections):
        made += (b"section %d" % number).ljust(ALIGNMENT, b"\0")
    return bytes(made)


def sections_of(program: bytes) -> dict[str, tuple[int, bytes]]:
    """Return address and content of each section, as a firmware loads them."""
    (pe,) = struct.unpack_from("<I", program, 0x3C)
    count, optional_bytes = struct.unpack_from("<2xH12xH", program, pe + 4)
    found = {}
    for number in range(count):
        name, size, address, raw_bytes, raw = struct.unpack_from(
            "<8sIIII", program, pe + 24 + optional_bytes + 40 * number
        )
        assert raw_bytes % ALIGNMENT == raw % ALIGNMENT == 0
        assert address % IMAGE_ALIGNMENT == 0
        assert raw + raw_bytes <= len(program)
        found[name.rstrip(b"\0").decode()] = (address, program[raw : raw + size])
    return found
