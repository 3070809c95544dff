"""State archives: an honest one is accepted, anything else that the target may send is refused."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from holdfast.base.errors import NotTrusted
from holdfast.facts.identity import Identity
from holdfast.tailnet import archive as module
from holdfast.tailnet.archive import check_archive

PRIVATE = "77076d0a7318a57d3c16c17251b26645c6df3d2a3f3c3b8c6a1f8a6f0a2b3c4d"
PUBLIC = X25519PrivateKey.from_private_bytes(bytes.fromhex(PRIVATE)).public_key().public_bytes_raw().hex()
NODE = Identity(node_key=f"nodekey:{PUBLIC}", node_id="n1", addresses=("100.64.0.1",))


def encoded(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.b64encode(text.encode()).decode()


def state(**changed: Any) -> bytes:
    config = {"PrivateNodeKey": f"privkey:{PRIVATE}", "NodeID": "n1"} | changed
    store = {
        "_machinekey": encoded("privkey:" + "1" * 64),
        "_current-profile": encoded("profile-7a2c"),
        "_profiles": encoded({}),
        "profile-7a2c": encoded({"WantRunning": True, "Config": config}),
    }
    return json.dumps(store).encode()


def tar_of(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def without_end(member: tuple[str, bytes]) -> bytes:
    """Return a tar of one member without the two empty blocks and the padding at its end."""
    return gzip.decompress(tar_of(member))[: 512 + -(-len(member[1]) // 512) * 512]


def negative_size() -> bytes:
    info = tarfile.TarInfo("x")
    info.size = -1024
    return info.tobuf(tarfile.GNU_FORMAT)


def kind(type_: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("x")
    info.type, info.linkname = type_, linkname
    return info


def pax(headers: dict[str, str]) -> tarfile.TarInfo:
    info = tarfile.TarInfo("x")
    info.pax_headers = headers
    return info


STATE = ("./tailscaled.state", state())


@pytest.mark.parametrize(
    "name", ["./tailscaled.state", "tailscale/tailscaled.state", "var/lib/tailscale/tailscaled.state"]
)
def test_honest_archive(name: str) -> None:
    archive = tar_of((".", kind(tarfile.DIRTYPE)), (name, state()), ("./certs/a.crt", b"cert"))
    seen = check_archive(archive, NODE)
    assert (seen.members, seen.node_key) == (3, NODE.node_key)
    assert seen.unpacked_bytes == len(state()) + 4


def test_public_key_is_derived_as_tailscale_does() -> None:
    # RFC 7748, section 5.2: the first round of its test, whose scalar and point are both 9.
    private = "09" + "00" * 31
    public = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    node = NODE.model_copy(update={"node_key": f"nodekey:{public}"})
    archive = tar_of(("tailscaled.state", state(PrivateNodeKey=f"privkey:{private}")))
    assert check_archive(archive, node).node_key == node.node_key


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([STATE, ("/etc/passwd", b"x")], "path that leads out"),
        ([STATE, ("../../etc/passwd", b"x")], "path that leads out"),
        ([STATE, ("a/../../b", b"x")], "path that leads out"),
        ([STATE, ("link", kind(tarfile.SYMTYPE, "/etc/shadow"))], "neither file nor folder"),
        ([STATE, ("hard", kind(tarfile.LNKTYPE, "tailscaled.state"))], "neither file nor folder"),
        ([STATE, ("dev", kind(tarfile.BLKTYPE))], "neither file nor folder"),
        ([STATE, ("pipe", kind(tarfile.FIFOTYPE))], "neither file nor folder"),
        ([STATE, STATE], "two files"),
        ([("tailscaled.state", kind(tarfile.DIRTYPE))], "not a file"),
        ([("other", b"x")], "no tailscaled.state"),
        ([("a/b/c/d/tailscaled.state", state())], "no tailscaled.state"),
        ([("tailscaled.state", b"privkey:")], "is not a JSON object"),
        ([("tailscaled.state", b"[" * 100_000)], "is not a JSON object"),
        ([("tailscaled.state", b"[]")], "not a JSON object"),
        ([("tailscaled.state", b"{}")], "no current profile"),
        ([("tailscaled.state", b'{"_current-profile": "!!"}')], "unexpected format"),
        ([("tailscaled.state", b'{"_current-profile": "\\u00e9"}')], "unexpected format"),
        ([("sparse", pax({"GNU.sparse.size": "x"}))], "damaged"),
        ([("tailscaled.state", b'{"key": {}, "nonce": "x", "data": "y"}')], "TPM"),
        ([("tailscaled.state", state(PrivateNodeKey="privkey:" + "0" * 64))], "no node key"),
        ([("tailscaled.state", state(PrivateNodeKey="x"))], "no node key"),
        ([("tailscaled.state", state(PrivateNodeKey="privkey:" + "2" * 64))], "restores nodekey:"),
        ([("tailscaled.state", state(NodeID="n2"))], "'n2'"),
    ],
)
def test_archive_is_refused(members: list[tuple[str, bytes | tarfile.TarInfo]], said: str) -> None:
    with pytest.raises(NotTrusted) as error:
        check_archive(tar_of(*members), NODE)
    assert said in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: b"", "cut off"),
        (lambda _: b"no gzip", "not a tar.gz"),
        (lambda _: gzip.compress(b"no tar" * 500), "damaged"),
        (lambda whole: whole + tar_of(("../evil", b"x")), "data after its end"),
        (lambda whole: whole + b"more", "data after its end"),
        (lambda _: gzip.compress(without_end(STATE) + b"garbage!" * 64 + without_end(("../x", b"x"))), "data after"),
        # Newer Pythons refuse the size themselves, and the message says damaged.
        (lambda _: gzip.compress(without_end(STATE) + negative_size() + bytes(1024)), "the state archive"),
        (lambda whole: whole[: len(whole) // 2], "cut off"),
        (lambda whole: bytes([*whole[:40], whole[40] ^ 255, *whole[41:]]), "state archive"),
        (lambda _: gzip.compress(bytes(module.MAX_ARCHIVE_UNPACKED_BYTES * 2)), "holds more than"),
    ],
)
def test_damaged_archive_is_refused(spoil: Callable[[bytes], bytes], said: str) -> None:
    with pytest.raises(NotTrusted) as error:
        check_archive(spoil(tar_of(STATE)), NODE)
    assert said in str(error.value)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [STATE, *((f"f{number}", b"") for number in range(module.MAX_ARCHIVE_MEMBERS))]
    with pytest.raises(NotTrusted, match="more than 2000 files"):
        check_archive(tar_of(*many), NODE)
    monkeypatch.setattr(module, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(NotTrusted, match="larger than 100 bytes"):
        check_archive(tar_of(STATE), NODE)


def test_no_message_holds_a_secret() -> None:
    for node in (
        NODE.model_copy(update={"node_key": "nodekey:" + "0" * 64}),
        NODE.model_copy(update={"node_id": "n9"}),
    ):
        with pytest.raises(NotTrusted) as error:
            check_archive(tar_of(STATE), node)
        assert PRIVATE[:8] not in repr(error.value) + str(error.value)
    assert PRIVATE not in repr(check_archive(tar_of(STATE), NODE))


def test_state_of_a_version_without_profiles() -> None:
    old = json.loads(state())
    old["_daemon"] = old.pop("profile-7a2c")
    for current in (None, ""):
        del old["_current-profile"]
        if current is not None:
            old["_current-profile"] = current
        assert check_archive(tar_of(("./tailscaled.state", json.dumps(old).encode())), NODE).node_key == NODE.node_key
        old["_current-profile"] = ""
    with pytest.raises(NotTrusted, match="no current profile"):
        check_archive(tar_of(("./tailscaled.state", b'{"_machinekey": "eA=="}')), NODE)
