"""kexec/run: which Tailscale state it hands over, and which archives it refuses."""

import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.kexec_origin import INITRD, KINDS, POISON, STATE, Origin, made_origin, packed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root are needed")


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    return made_origin(request.param, tmp_path)


@needs_root
def test_a_prepared_archive_comes_first(origin: Origin) -> None:
    origin.archive("tmp/tailscale-state.tar.gz", "prepared")
    assert origin.run()[0] == 0
    assert origin.state() == "prepared"


def _link(archive: Path) -> None:
    archive.rename(archive.with_name("elsewhere"))
    archive.symlink_to("elsewhere")


def _folder(archive: Path) -> None:
    archive.unlink()
    archive.mkdir()


def _of_another_user(archive: Path) -> None:
    os.chown(archive, 1000, 0)


def _second_name(archive: Path) -> None:
    archive.with_name("second").hardlink_to(archive)


def _for_the_group(archive: Path) -> None:
    archive.chmod(0o620)


def _for_others(archive: Path) -> None:
    archive.chmod(0o602)


def _pipe(archive: Path) -> None:
    archive.unlink()
    os.mkfifo(archive)


def _dangling(archive: Path) -> None:
    archive.unlink()
    archive.symlink_to("nowhere")


def _zeros(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.truncate(2 << 30)


@needs_root
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_link, "not a regular file"),
        (_dangling, "not a regular file"),
        (_folder, "not a regular file"),
        (_pipe, "not a regular file"),
        (_of_another_user, "not owned by root"),
        (_second_name, "it has a second name"),
        (_for_the_group, "others may write to it"),
        (_for_others, "others may write to it"),
        (_zeros, "it has more than 67108864 bytes"),
    ],
)
def test_a_file_that_others_could_have_put_there_is_left_alone(
    origin: Origin, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(origin.archive("tmp/tailscale-state.tar.gz", "hostile"))
    status, _, errors = origin.run()
    assert status == 0
    assert f"tailscale-state.tar.gz is not used: {reason}" in errors
    assert POISON in origin.state()
    assert (origin.kexec / "initrd").read_bytes() == INITRD


@needs_root
@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "not a tar.gz"),
        (b"no archive at all", "not a tar.gz"),
        (gzip.compress(b"no tar" * 500), "not a tar.gz"),
        (packed(STATE)[:-20], "not a tar.gz, or damaged"),
        (gzip.compress(gzip.decompress(packed(STATE, ("x", tarfile.REGTYPE, "", b"x" * 9999)))[:3000]), "or damaged"),
        (packed(("notes", tarfile.REGTYPE, "", b"x")), "has no tailscaled.state"),
        (packed(("tailscaled.state", tarfile.REGTYPE, "", b"")), "has no tailscaled.state, or an empty one"),
        (packed(STATE, ("/etc/x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("../x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("a/../../x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("a/..", tarfile.DIRTYPE, "", b"")), "a path that leads out of it"),
        (packed(STATE, ("disk", tarfile.BLKTYPE, "", b"")), "links, devices"),
        (packed(STATE, ("tty", tarfile.CHRTYPE, "", b"")), "links, devices"),
        (packed(STATE, ("out", tarfile.SYMTYPE, "/etc", b"")), "links, devices"),
        (packed(STATE, ("twin", tarfile.LNKTYPE, "./tailscaled.state", b"")), "links, devices"),
        (packed(STATE, *[(f"f{n}", tarfile.REGTYPE, "", b"") for n in range(2000)]), "more than 2000 files"),
        (packed(STATE, ("x" * 262144, tarfile.REGTYPE, "", b"")), "very long names"),
        (gzip.compress(bytes(1 << 20)) * 2048, "more than 67108864 bytes"),
        (packed(("tailscaled.state", tarfile.REGTYPE, "", bytes(65 << 20))), "more than 67108864 bytes"),
    ],
)
def test_an_archive_that_the_installer_would_refuse_is_not_used(origin: Origin, archive: bytes, reason: str) -> None:
    path = origin.write("tmp/tailscale-state.tar.gz", "")
    path.write_bytes(archive)
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 0
    [line] = [line for line in errors.splitlines() if "is not used" in line]
    assert line.startswith(f"kexec/run: {path} is not used: it ")
    assert reason in line
    assert "hands over the Tailscale state in" in errors
    assert POISON in origin.state()
    loaded = (origin.notes / "loaded").read_bytes()
    assert not archive or archive not in loaded
    assert len(loaded) < len(INITRD) + 65536
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before


@needs_root
def test_an_archive_that_was_named_must_be_good(origin: Origin) -> None:
    archive = origin.archive("tmp/mine.tar.gz", "named")
    assert origin.run("--state", str(archive))[0] == 0
    assert origin.state() == "named"
    archive.chmod(0o666)
    status, _, errors = origin.run("--state", str(archive), "--allow-no-state")
    assert status == 1
    assert "others may write to it" in errors
    assert "--state: give a file that only root can write" in errors
    archive.chmod(0o600)
    archive.write_bytes(packed(STATE, ("out", tarfile.SYMTYPE, "/etc", b"")))
    before = origin.snapshot()
    status, _, errors = origin.run("--state", str(archive), "--allow-no-state")
    assert status == 1
    assert "links, devices" in errors
    assert "--state: give a tar.gz of /var/lib/tailscale" in errors
    assert origin.snapshot() == before


@needs_root
def test_a_refused_archive_and_no_live_state_stop_it(origin: Origin) -> None:
    origin.write("tmp/tailscale-state.tar.gz", "no archive at all")
    shutil.rmtree(origin.root / "var/lib/tailscale")
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 1
    assert "not a tar.gz" in errors
    assert "no Tailscale state found" in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


@needs_root
def test_a_swap_between_look_and_opening_is_seen(origin: Origin) -> None:
    """In a /tmp that is not sticky anybody can put another file of root in the place of the first."""
    archive = origin.archive("tmp/tailscale-state.tar.gz", "first")
    other = origin.archive("root/other.tar.gz", "other")
    tool = origin.tools / "stat"
    tool.unlink(missing_ok=True)
    swap = f"rm {archive}; cp {other} {archive}"
    tool.write_text(f'#!/bin/sh\ncase $* in *%d:%i*fd/3) {swap} ;; esac\nexec {shutil.which("stat")} "$@"\n')
    tool.chmod(0o755)
    status, _, errors = origin.run()
    assert status == 0
    assert "tailscale-state.tar.gz is not used: it was replaced meanwhile" in errors
    assert POISON in origin.state()


def test_a_live_state_that_cannot_be_handed_over_stops_it(origin: Origin) -> None:
    with (origin.root / "var/lib/tailscale/taildrop").open("wb") as file:
        file.truncate(65 << 20)
    before = (origin.kexec / "initrd").read_bytes()
    status, _, errors = origin.run("--allow-no-state")
    assert status == 1
    assert "var/lib/tailscale is not used: it holds more than 67108864 bytes" in errors
    assert "the Tailscale state of this system cannot be handed over" in errors
    assert origin.calls() == []
    assert (origin.kexec / "initrd").read_bytes() == before


def test_a_live_state_behind_links_is_handed_over_itself(origin: Origin) -> None:
    live = origin.root / "var/lib/tailscale"
    (origin.root / "persist").mkdir()
    (live / "tailscaled.state").rename(origin.root / "persist/tailscaled.state")
    (live / "tailscaled.state").symlink_to(origin.root / "persist/tailscaled.state")
    live.rename(origin.root / "persist/tailscale")
    live.symlink_to("../../persist/tailscale")
    assert origin.run()[0] == 0
    assert POISON in origin.state()


def test_without_state_it_stops_unless_told(origin: Origin) -> None:
    shutil.rmtree(origin.root / "var/lib/tailscale")
    status, _, errors = origin.run()
    assert status == 1
    assert "no Tailscale state found" in errors
    assert origin.calls() == []
    status, _, errors = origin.run("--allow-no-state")
    assert status == 0
    assert "will not be on the tailnet" in errors
    assert not (origin.handed_over() / "holdfast/tailscale-state.tar.gz").exists()


def test_state_none_hands_over_none(origin: Origin) -> None:
    assert origin.run("--state", "none")[0] == 0
    assert not (origin.handed_over() / "holdfast/tailscale-state.tar.gz").exists()


def test_log_files_and_links_to_nothing_are_no_state(origin: Origin) -> None:
    """tailscaled's log files alone may be larger than what the installer takes."""
    folder = origin.root / "var/lib/tailscale"
    (folder / "derpmap.cached.json").write_text("{}")
    (folder / "tailscaled.log.conf").write_text("{}")
    for number in (1, 2):
        with (folder / f"tailscaled.log{number}.txt").open("wb") as file:
            file.truncate(80_000_000)
    (origin.root / "data").mkdir()
    (origin.root / "data/a.crt").write_text("certificate")
    (folder / "certs").symlink_to(origin.root / "data")
    (folder / "gone").symlink_to("nowhere")
    status, _, errors = origin.run()
    assert status == 0, errors
    with tarfile.open(origin.handed_over() / "holdfast/tailscale-state.tar.gz") as archive:
        assert sorted(name for name in archive.getnames() if name != ".") == [
            "./certs",
            "./certs/a.crt",
            "./derpmap.cached.json",
            "./tailscaled.log.conf",
            "./tailscaled.state",
        ]


def test_file_that_grows_or_vanishes_meanwhile_is_no_failure(origin: Origin) -> None:
    """tar ends with 1 then; what it packed is read back and checked."""
    real = origin.tools / "tar"
    busybox = real.is_symlink()
    real.unlink(missing_ok=True)
    tar = f"{shutil.which('busybox')} tar" if busybox else shutil.which("tar")
    real.write_text(f'#!/bin/sh\ncase "$*" in *-czhf*) {tar} "$@"; exit 1 ;; *) exec {tar} "$@" ;; esac\n')
    real.chmod(0o755)
    status, _, errors = origin.run()
    assert status == 0, errors
    assert origin.state() == json.dumps({"_machinekey": POISON})
