"""kexec/run: the secrets for the installer, which come on standard input."""

import gzip
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.unit.kexec_origin import INITRD, KINDS, POISON, Entry, Origin, made_origin, packed


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    return made_origin(request.param, tmp_path)


SECRET: Entry = ("portal", tarfile.REGTYPE, "", b"user=me&" + POISON.encode())


def plain(*entries: Entry) -> bytes:
    """A tar as the operator packs it."""
    return gzip.decompress(packed(*entries))


def test_secrets_are_handed_over_and_leave_no_trace(origin: Origin) -> None:
    before = origin.snapshot()
    content = plain(SECRET, ("_b.2-c", tarfile.REGTYPE, "", b"\0\n"))
    # A whole pipe or file may be longer.
    status, errors = origin.hand(content + b"more", "--secrets", str(len(content)))
    assert status == 0
    assert "hands over the secrets on standard input" in errors
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before
    handed = origin.handed_over() / "holdfast/secrets.tar"
    assert handed.read_bytes() == content
    assert handed.stat().st_mode & 0o777 == 0o600
    # Nor are they in what it calls, or what it calls with.
    assert not any(POISON in call for call in origin.calls())


def test_without_the_flag_standard_input_is_not_read(origin: Origin) -> None:
    status, errors = origin.hand(plain(SECRET))
    assert status == 0
    assert origin.read == 0
    assert "secrets" not in errors
    assert not (origin.handed_over() / "holdfast/secrets.tar").exists()
    assert (origin.kexec / "initrd").read_bytes() == INITRD


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"", 1, "only 0 of 1 bytes came"),
        (plain(SECRET)[:700], 9000, "only 700 of 9700 bytes came"),
        (POISON.encode() * 100, 0, "not a tar"),
        (plain(), 0, "an empty or damaged one"),
        (plain(SECRET)[:700], 0, "damaged one"),
        (plain(SECRET, ("link", tarfile.SYMTYPE, "/etc/shadow", b"")), 0, "not plain files"),
        (plain(SECRET, ("twin", tarfile.LNKTYPE, "portal", b"")), 0, "not plain files"),
        (plain(SECRET, ("folder", tarfile.DIRTYPE, "", b"")), 0, "not plain files"),
        (plain(SECRET, ("pipe", tarfile.FIFOTYPE, "", b"")), 0, "not plain files"),
        *(
            (plain(SECRET, (name, tarfile.REGTYPE, "", b"x")), 0, "not a simple one")
            for name in ("/portal", "a/b", "./a", "../a", "..", ".a", "-a", "a b", "ä", "x" * 65)
        ),
        # busybox lists it as two lines.
        (plain(SECRET, ("a\nb c", tarfile.REGTYPE, "", b"x")), 0, "--secrets: the tar holds"),
        (plain(*((f"f{n}", tarfile.REGTYPE, "", b"") for n in range(65))), 0, "more than 64 files"),
    ],
)
def test_secrets_that_the_installer_would_refuse_stop_it(
    origin: Origin, content: bytes, more: int, reason: str
) -> None:
    before = origin.snapshot()
    status, errors = origin.hand(content, "--secrets", str(len(content) + more))
    assert status == 1
    assert reason in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


def test_secrets_are_cut_off_by_the_next_start_if_it_is_killed(origin: Origin) -> None:
    shutil.rmtree(origin.root / "var/lib/tailscale")
    (origin.root / "etc/ssh/ssh_host_ed25519_key").unlink()
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    with tempfile.TemporaryFile() as file:
        file.write(plain(SECRET))
        file.flush()
        file.seek(0)
        process = origin.start("--allow-no-state", "--secrets", str(len(plain(SECRET))), stdin=file.fileno())
        origin.wait_for("kexec", "--load")
        process.kill()
        (origin.notes / "hang").unlink()
        process.communicate(timeout=60)
    assert POISON.encode() in (origin.kexec / "initrd").read_bytes()
    assert origin.run("--allow-no-state")[0] == 0
    assert origin.snapshot() == before
