"""How the installer is started: with our flags, or, in the standard way, with none that a stock image does not know."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import script
from holdfast.inventory.host import Host
from holdfast.plan.results import Started
from holdfast.target.machine import Machine
from tasks.kexec import BUSY, _check_programs, _command
from tasks.reconnect import _returned, _Seen, _what_next
from tests.log import Remembered
from tests.unit.cases import facts, host, plan
from tests.unit.target import FakeMachine

STANDARD = host(way="standard")


def run_start(folder: Path, script: str, standard: Host = STANDARD) -> int:
    """Start what the command for the standard way starts, with a `kexec/run` of our own."""
    (folder / "kexec").mkdir()
    (folder / "kexec" / "initrd").write_text("kernel's files, and SSH host keys behind them")
    (folder / "kexec" / "run").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kexec" / "run").chmod(0o755)
    command = _command(standard, plan(facts("debian-12"), standard), str(folder), 0, ("--host-key", "x y"))
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_stock_image_gets_no_flags_and_leaves_no_keys(tmp_path: Path, script: str, status: int) -> None:
    assert run_start(tmp_path, f'echo "$#" >{tmp_path}/flags\n{script}') == status
    assert (tmp_path / "flags").read_text() == "0\n"
    assert not (tmp_path / "kexec" / "initrd").exists()


EXTRA = ["--kexec-file-syscall", "--mem-max=0x40000000"]


def test_stock_image_gets_the_flags_for_kexec(tmp_path: Path) -> None:
    with_flags = host(way="standard", kexec_extra_flags=EXTRA)
    assert run_start(tmp_path, f"printf '%s\\n' \"$@\" >{tmp_path}/flags; exit 3", with_flags) == 3
    assert (tmp_path / "flags").read_text().splitlines() == ["--kexec-extra-flags", " ".join(EXTRA)]
    assert not (tmp_path / "kexec" / "initrd").exists()


def test_our_image_gets_the_flags_for_kexec() -> None:
    command = _command(host(kexec_extra_flags=EXTRA), plan(facts("debian-12")), "/x", 0, ("--host-key", "x y"))
    assert command[-4:] == ["--kexec-extra-flags", " ".join(EXTRA), "--host-key", "x y"]


def test_our_image_gets_run_and_dead_man() -> None:
    command = _command(host(), plan(facts("debian-12")), "/var/lib/holdfast/x", 0, ())
    assert command == ["/var/lib/holdfast/x/kexec/run", "--run-id", "run-2", "--dead-man-s", "900"]
    assert _command(host(), plan(facts("debian-12")), "/var/lib/holdfast/x", 10240, ("--host-key", "x y")) == [
        *command,
        "--secrets",
        "10240",
        "--host-key",
        "x y",
    ]


def image(folder: Path) -> Path:
    """An uploaded image whose `kexec/run` leaves behind, as a real one does, what starts kexec in a while."""
    runner = folder / "made" / "kexec" / "run"
    runner.parent.mkdir(parents=True)
    runner.write_text(
        '#!/bin/sh\necho "$1" >>"$2/started"\n(until [ -e "$2/kexec" ]; do sleep 0.05; done) >&- 2>&- &\n'
    )
    runner.chmod(0o755)
    (folder / "x").mkdir()
    subprocess.run(["tar", "-C", str(folder / "made"), "-cf", f"{folder / 'x'}.tar", "kexec"], check=True)
    return folder / "x"


def start_alone(folder: Path, which: str, *, path: str | None = None) -> int:
    command = [
        "sh",
        "-c",
        script("origin/start-alone.sh"),
        "start-alone.sh",
        which,
        str(folder),
        f"{folder}/kexec/run",
        which,
        str(folder.parent),
    ]
    return subprocess.run(command, check=False, timeout=60, env={"PATH": path} if path else None).returncode


def test_only_one_installer_is_started_at_a_time(tmp_path: Path) -> None:
    folder = image(tmp_path)
    assert start_alone(folder, "first") == 0
    # Its caller may not have heard that; until kexec comes, nobody unpacks or starts another one.
    (folder / "kexec" / "run").write_text("#!/bin/sh\nexit 1\n")
    assert [start_alone(folder, which) for which in ("first", "again")] == [BUSY, BUSY]
    (tmp_path / "kexec").touch()
    ends = time.monotonic() + 20
    while (status := start_alone(folder, "again")) == BUSY and time.monotonic() < ends:
        time.sleep(0.05)
    assert status == 0
    assert (tmp_path / "started").read_text() == "first\nagain\n"


def test_where_nobody_can_tell_what_runs_nothing_is_started_again(tmp_path: Path) -> None:
    folder = image(tmp_path)
    programs = tmp_path / "bin"  # no flock
    programs.mkdir()
    for name in ("sh", "sleep", "tar"):
        (programs / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "kexec").touch()
    assert [start_alone(folder, which, path=str(programs)) for which in ("first", "again")] == [0, BUSY]


def test_stock_image_needs_programs_of_the_origin(machine: FakeMachine) -> None:
    target = Machine(STANDARD, Remembered()).connect()
    _check_programs(target, STANDARD)
    for program in ("cpio", "gzip"):
        machine.lacks = {program}
        with pytest.raises(TargetRefused, match=rf"no {program} on cottage.*Install {program}"):
            _check_programs(target, STANDARD)


def test_who_does_not_come_back_is_told_what_happens_by_itself() -> None:
    started = Started(kexec_at=1_800_000_000.0, origin_boot_id="x")
    assert "no dead-man" in _what_next(STANDARD, started)
    assert "untouched origin at about" in _what_next(host(), started)


@pytest.mark.parametrize(("secrets", "warned"), [("refused: damaged", 1), ("restored", 0), ("none", 0)])
def test_installer_that_refused_its_secrets_is_warned_of(log: Remembered, secrets: str, warned: int) -> None:
    mark = f'{{"run_id": "run-1", "state": "restored", "secrets": "{secrets}"}}'
    seen = _Seen(facts("installer", installer_mark=mark), 0.0, False, False)
    _returned(host(), Started(origin_boot_id="x"), seen)
    assert [secrets in line for line in log.warned] == [True] * warned


OLD = "0123456789abcdef"
TAIL = b"node's state" * 1000


def left_killed(folder: Path) -> Path:
    """Return the initrd of an image whose `kexec/run` was killed, with a second name for its blocks."""
    initrd = folder / "kexec/initrd"
    initrd.parent.mkdir(parents=True, exist_ok=True)
    initrd.write_bytes(b"kernel's files" + TAIL)
    initrd.with_name("initrd.length").write_text("14\n")
    blocks = folder.parent.parent / "blocks"
    blocks.hardlink_to(initrd)
    return blocks


@pytest.fixture(params=["gnu", "busybox"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a PATH: all of this machine's programs, or busybox' alone, without its flock."""
    if request.param == "gnu":
        return os.environ["PATH"]
    folder = tmp_path / "tools"
    folder.mkdir()
    subprocess.run(["busybox", "--install", "-s", str(folder)], check=True)
    (folder / "flock").unlink(missing_ok=True)
    return str(folder)


def test_unpacking_again_leaves_no_state_in_unlinked_blocks(tmp_path: Path, tools: str) -> None:
    (tmp_path / "holdfast").mkdir()
    folder = image(tmp_path / "holdfast")
    blocks = left_killed(folder)
    (tmp_path / "holdfast/kexec").touch()
    assert start_alone(folder, "first", path=tools) == 0
    assert blocks.read_bytes() == b"kernel's files"
    assert not (folder / "kexec/initrd.length").exists()


def make_room(folder: Path, tools: str) -> list[str]:
    command = ["sh", "-c", script("origin/make-room.sh"), "make-room.sh", str(folder)]
    done = subprocess.run(command, check=True, timeout=60, env={"PATH": tools}, capture_output=True, text=True)
    return sorted(done.stdout.split())


def test_images_of_earlier_runs_make_room(tmp_path: Path, tools: str) -> None:
    parent = tmp_path / "holdfast"
    blocks = left_killed(parent / OLD)
    (parent / "fedcba9876543210/kexec").mkdir(parents=True)
    fetched = ("3333333333333333.tar.fetched", "3333333333333333.tar.fetched.said")
    for name in (f"{OLD}.tar", "1111111111111111.tar.part", *fetched, "fedcba9876543210.tar.part", "partition.json"):
        (parent / name).write_text("x")
    for name in ("0123456789abcde", "0123456789abcdefg", "0123456789abcdef.old", "Documents"):
        (parent / name).mkdir()
    (parent / "2222222222222222").symlink_to(tmp_path)
    removed = [OLD, f"{OLD}.tar", "1111111111111111.tar.part", *fetched]
    assert make_room(parent / "fedcba9876543210", tools) == sorted(removed)
    assert blocks.read_bytes() == b"kernel's files"
    assert not any((parent / name).exists() for name in removed)
    assert len(list(parent.iterdir())) == 9  # with the lock
    assert make_room(parent / "fedcba9876543210", tools) == []


def test_nothing_is_removed_beside_a_start_that_still_works(tmp_path: Path, tools: str) -> None:
    (tmp_path / "holdfast" / OLD / "kexec").mkdir(parents=True)
    runner = tmp_path / "holdfast" / OLD / "kexec/run"
    runner.write_text(f"#!/bin/sh\ntouch {tmp_path}/runs\nread -r _\n")
    runner.chmod(0o755)
    hold = ["flock", str(tmp_path / "holdfast/kexec.lock")] if shutil.which("flock", path=tools) else []
    with subprocess.Popen([*hold, str(runner)], stdin=subprocess.PIPE) as works:
        while not (tmp_path / "runs").exists():
            time.sleep(0.02)
        assert make_room(tmp_path / "holdfast/fedcba9876543210", tools) == []
        works.communicate(b"\n")
    assert make_room(tmp_path / "holdfast/fedcba9876543210", tools) == [OLD]


def test_stock_image_whose_start_was_killed_is_wiped_by_the_next(tmp_path: Path, tools: str) -> None:
    """It is killed itself, with its `kexec/run`."""
    (tmp_path / "holdfast").mkdir()
    folder = image(tmp_path / "holdfast")
    (folder / "kexec").mkdir()
    (folder / "kexec/initrd").write_bytes(b"kernel's files")
    (folder / "kexec/run").write_text(f"#!/bin/sh\nprintf tail >>{folder}/kexec/initrd\nkill -9 $PPID\n")
    (folder / "kexec/run").chmod(0o755)
    (tmp_path / "blocks").hardlink_to(folder / "kexec/initrd")
    command = _command(STANDARD, plan(facts("debian-12"), STANDARD), str(folder), 0, ())
    assert subprocess.run(command, check=False, timeout=60, env={"PATH": tools}).returncode == -9
    assert (tmp_path / "blocks").read_bytes() == b"kernel's filestail"
    (tmp_path / "holdfast/kexec").touch()
    assert start_alone(folder, "first", path=tools) == 0
    assert (tmp_path / "blocks").read_bytes() == b"kernel's files"
