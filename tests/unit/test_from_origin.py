"""The standby is taken from the origin's own disk: what is uploaded then, and what happens when the disk stays held."""

import hashlib
from pathlib import Path

import pytest

from holdfast.base.size import MIB
from holdfast.target import standby
from holdfast.target.from_origin import MAX_LITERALS, StillHeld, Wanted, made_of, take
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.unit.cases import facts, host
from tests.unit.programs import Command, Done
from tests.unit.target import FakeMachine
from tests.unit.test_standby import FILES, STARTER, image

SHA256 = "ab" * 32
RAM = "/run/holdfast/standby"


@pytest.fixture
def installer(machine: FakeMachine) -> FakeMachine:
    machine.is_in("installer")
    return machine


def bring(folder: Path, log: Remembered, *disks: str, firmware: str = "efi") -> None:
    seen = facts("installer").model_copy(update={"available_bytes": 500 * MIB, "firmware": firmware})
    files = image(folder, FILES | STARTER)
    standby.bring(Machine(host(), log), files, seen, image_sha256=SHA256, disks=disks)


def makes(installer: FakeMachine, *names: str) -> None:
    """Let the origin's disk have what these files are made of."""

    def made(command: Command) -> str:
        asked = command.args[command.args.index("--") + 1 :]
        for name in asked[::4]:
            if name in names:
                installer.files[f"{RAM}/{name}"] = b"made there"
        return "".join(f"{name}\n" for name in names)

    installer.on("standby-from-origin.sh", made)


def test_what_the_origins_disk_has_is_not_uploaded(tmp_path: Path, installer: FakeMachine) -> None:
    log = Remembered()
    makes(installer, "kernel", "initrd", "standby.efi")
    bring(tmp_path, log, "vda", "sdb")
    [asked] = installer.told("standby-from-origin.sh")
    assert asked[:2] == [RAM, SHA256[:16]]
    assert asked[3:6] == ["vda", "sdb", "--"]
    words = asked[6:]
    assert words[::4] == ["kernel", "initrd", "standby.efi"]
    assert words[1:4] == ["6", hashlib.sha256(b"kernel").hexdigest(), "bzImage"]
    head, starter, between, kernel, rest = words[11].split(",")
    assert (starter, kernel) == ("starter", "bzImage")
    assert [piece[0] for piece in (head, between, rest)] == ["@", "@", "@"]
    assert installer.told("upload-append.sh") == []
    assert installer.told("standby-released.sh") == [["vda", "sdb"]]
    [said] = [line for line in log.said if line.startswith("the standby: ")]
    assert f"{asked[2]} bytes are uploaded" in said


def test_what_it_lacks_is_uploaded(tmp_path: Path, installer: FakeMachine) -> None:
    log = Remembered()
    makes(installer, "initrd")
    bring(tmp_path, log, "vda", firmware="bios")
    assert [args[0] for args in installer.told("upload-append.sh")] == [f"{RAM}/kernel", f"{RAM}/starter"]
    assert "the standby: 600 bytes are taken from the origin's own disk, 13 bytes are uploaded" in log.said


@pytest.mark.parametrize(
    "answer", [Done(status=1, stderr="unshare: no"), Done("somebody\nelse's words\n"), Done(status=127)]
)
def test_whatever_prevents_it_is_no_failure(tmp_path: Path, installer: FakeMachine, answer: Done) -> None:
    installer.on("standby-from-origin.sh", lambda _: answer)
    bring(tmp_path, Remembered(), "vda", firmware="bios")
    assert len(installer.told("upload-append.sh")) == 3


def test_a_link_that_breaks_meanwhile_is_no_failure(tmp_path: Path, installer: FakeMachine) -> None:
    installer.on("standby-from-origin.sh", lambda _: installer.cut())
    bring(tmp_path, Remembered(), "vda", firmware="bios")
    assert installer.told("standby-released.sh") == [["vda"]]
    assert len(installer.told("upload-append.sh")) == 3


def test_a_disk_that_stays_held_is_not_formatted(tmp_path: Path, installer: FakeMachine) -> None:
    installer.on("standby-released.sh", lambda _: Done("still in use: /dev/loop3\x1b \n", status=1))
    with pytest.raises(StillHeld, match=r"may still be in use: still in use: /dev/loop3\\x1b. Nothing is formatted"):
        bring(tmp_path, Remembered(), "vda")
    assert installer.told("upload-append.sh") == []


def test_a_disk_of_which_nobody_knows_is_not_formatted(tmp_path: Path, installer: FakeMachine) -> None:
    installer.on("standby-released.sh", lambda _: installer.cut())
    with pytest.raises(StillHeld, match="the link to cottage broke"):
        bring(tmp_path, Remembered(), "vda")


def test_without_disks_nothing_is_looked_at(tmp_path: Path, installer: FakeMachine) -> None:
    bring(tmp_path, Remembered())
    assert installer.told("standby-from-origin.sh") == installer.told("standby-released.sh") == []


def test_small_parts_that_are_not_small_are_not_sent_apart(tmp_path: Path, installer: FakeMachine) -> None:
    (tmp_path / "x").write_bytes(bytes(MAX_LITERALS + 1))
    wanted = [Wanted(tmp_path / "x", (bytes(MAX_LITERALS + 1),))]
    assert take(Machine(host(), Remembered()), SHA256, wanted, ["vda"], dead_man_s=900) == frozenset()
    assert installer.told("standby-from-origin.sh") == []


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (b"head ONE gap TWO end", (b"head ", "one", b" gap ", "two", b" end")),
        (b"ONETWO", ("one", "two")),
        (b"TWO ONE", (b"TWO ", "one")),  # not in their order: what is left is small parts
        (b"none of them", (b"none of them",)),
    ],
)
def test_pieces_of_a_file_make_it_again(content: bytes, pieces: tuple[str | bytes, ...]) -> None:
    sources = {"one": b"ONE", "two": b"TWO", "empty": b""}
    made = made_of(content, sources)
    assert made == pieces
    assert b"".join(piece if isinstance(piece, bytes) else sources[piece] for piece in made) == content
