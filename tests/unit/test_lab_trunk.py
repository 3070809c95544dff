"""The frames of the lab's switch."""

import pytest

from lab.trunk import IPV6, TRUNK, tagged, untagged

HEAD = bytes(range(12))
PLAIN = HEAD + b"\x08\x00text"


def test_frame_on_a_trunk_has_the_tag_of_its_vlan() -> None:
    assert tagged(PLAIN, TRUNK) == HEAD + b"\x81\x00\x00\x07\x08\x00text"
    assert tagged(PLAIN, IPV6) == PLAIN


@pytest.mark.parametrize(
    ("frame", "on_trunk", "without"),
    [
        (PLAIN, None, PLAIN),
        (HEAD + b"\x81\x00\x00\x07\x08\x00text", PLAIN, None),
        (HEAD + b"\x81\x00\xe0\x07\x08\x00text", PLAIN, None),  # with a priority
        (HEAD + b"\x81\x00\x00\x08\x08\x00text", None, None),
        (HEAD + b"\x81\x00\x00\x00\x08\x00text", None, PLAIN),  # a priority alone, and no VLAN
    ],
)
def test_only_frames_of_the_network_pass(frame: bytes, on_trunk: bytes | None, without: bytes | None) -> None:
    assert untagged(frame, TRUNK) == on_trunk
    assert untagged(frame, IPV6) == without
