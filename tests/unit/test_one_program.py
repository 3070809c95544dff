"""The EFI program that is the starter with its kernel."""

import struct

import pytest

from holdfast.base.errors import ConfigError
from holdfast.target.one_program import one_program
from tests.unit.efi_stub import IMAGE_ALIGNMENT, make_stub, sections_of


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4095, 4096, 4097, 70000])
def test_firmware_finds_each_part_at_an_address_of_its_own(size: int) -> None:
    initrd, kernel = b"i" * size, b"k" * (size + 7)
    program = one_program(make_stub(), command_line="init=/init console=ttyS0", initrd=initrd, kernel=kernel)
    found = sections_of(program)
    assert {name: content for name, (_, content) in found.items() if name[:2] != ".s"} == {
        ".cmdline": b"init=/init console=ttyS0",
        ".initrd": initrd,
        ".linux": kernel,
    }
    assert found[".s1"][1] == b"section 1".ljust(16, b"\0")
    ends = 0
    for address, content in found.values():
        assert address >= ends
        ends = address + len(content)
    optional = 0x80 + 24
    image_bytes, _, checksum = struct.unpack_from("<III", program, optional + 56)
    assert image_bytes == -(-ends // IMAGE_ALIGNMENT) * IMAGE_ALIGNMENT
    assert checksum == 0
    assert list(found)[-1] == ".linux"


@pytest.mark.parametrize(
    ("stub", "why"),
    [
        (b"", ""),
        (b"MZ", ""),
        (b"#!/bin/sh\n" * 100, "it is no EFI program"),
        (make_stub(magic=0x10B), "for 64 bits"),
        (make_stub(sections=4, headers_bytes=0x200), "no room for more sections"),
        (make_stub(sections=0), "for 64 bits"),
        (make_stub()[:200], ""),
    ],
)
def test_stub_that_will_not_do_is_refused(stub: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=f"EFI stub cannot be used: .*{why}"):
        one_program(stub, command_line="x", initrd=b"i", kernel=b"k")
