"""How the installer is started: with our flags, or, in the standard way, with none that a stock image does not know."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from holdfast.base.command import CommandResult
from holdfast.base.errors import TargetRefused
from holdfast.base.settings import script
from holdfast.plan.results import Started
from tasks import reconnect
from tasks.kexec import BUSY, _check_programs, _command
from tasks.reconnect import _returned, _Seen, _what_next
from tests.unit.cases import facts, host, plan

STANDARD = host(way="standard")


def run_start(folder: Path, script: str) -> int:
    """Start what the command for the standard way starts, with a `kexec/run` of our own."""
    (folder / "kexec").mkdir()
    (folder / "kexec" / "initrd").write_text("kernel's files, and SSH host keys behind them")
    (folder / "kexec" / "run").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kexec" / "run").chmod(0o755)
    command = _command(STANDARD, plan(facts("debian-12"), STANDARD), str(folder), 0)
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_stock_image_gets_no_flags_and_leaves_no_keys(tmp_path: Path, script: str, status: int) -> None:
    assert run_start(tmp_path, f'echo "$#" >{tmp_path}/flags\n{script}') == status
    assert (tmp_path / "flags").read_text() == "0\n"
    assert not (tmp_path / "kexec" / "initrd").exists()


def test_our_image_gets_run_and_dead_man() -> None:
    command = _command(host(), plan(facts("debian-12")), "/var/lib/holdfast/x", 0)
    assert command == ["/var/lib/holdfast/x/kexec/run", "--run-id", "run-2", "--dead-man-s", "900"]
    assert _command(host(), plan(facts("debian-12")), "/var/lib/holdfast/x", 10240) == [*command, "--secrets", "10240"]


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


def target(*lacking: str) -> Any:
    def run(argv: Sequence[str], **_more: object) -> CommandResult:
        return CommandResult(tuple(argv), "cottage", 1 if argv[-1] in lacking else 0, "", "", 0.0)

    return cast("Any", SimpleNamespace(run=run))


def test_stock_image_needs_programs_of_the_origin() -> None:
    _check_programs(target(), STANDARD)
    for program in ("cpio", "gzip"):
        with pytest.raises(TargetRefused, match=rf"no {program} on cottage.*Install {program}"):
            _check_programs(target(program), STANDARD)


def test_who_does_not_come_back_is_told_what_happens_by_itself() -> None:
    started = Started(kexec_at=1_800_000_000.0, origin_boot_id="x")
    assert "no dead-man" in _what_next(STANDARD, started)
    assert "untouched origin at about" in _what_next(host(), started)


@pytest.mark.parametrize(("secrets", "warned"), [("refused: damaged", 1), ("restored", 0), ("none", 0)])
def test_installer_that_refused_its_secrets_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, secrets: str, warned: int
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reconnect, "warn", said.append)
    monkeypatch.setattr(reconnect, "say", lambda _line: None)
    mark = f'{{"run_id": "run-1", "state": "restored", "secrets": "{secrets}"}}'
    seen = _Seen(facts("installer", installer_mark=mark), False, False)
    _returned(host(), Started(origin_boot_id="x"), seen)
    assert [secrets in line for line in said] == [True] * warned
