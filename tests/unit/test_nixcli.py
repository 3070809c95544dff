"""Command lines for nix, parsing its answers, and running it, with a script in place of nix."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from holdfast.base.errors import CommandFailed, ConfigError, DeadlinePassed
from holdfast.base.process import run_local
from holdfast.nixcli import commands, flake
from holdfast.plan.system import Lock
from holdfast.ssh.sshconfig import look_up
from tests.unit.cases import LOCK, host, system

FAKE_NIX = """\
import json, os, sys
answers = json.load(open(os.environ["FAKE_NIX_ANSWERS"]))
open(os.environ["FAKE_NIX_ANSWERS"] + ".log", "a").write(json.dumps(sys.argv[1:]) + "\\n")
# Not in an expression: that may have any word in it.
words = " ".join(word for word in sys.argv[1:] if "\\n" not in word)
for key, (out, err, status) in answers.items():
    if key in words:
        sys.stderr.write(err)
        sys.stdout.write(out)
        sys.exit(status)
sys.exit(99)
"""
BOUNDS = (
    "--option connect-timeout 5 --option stalled-download-timeout 15"
    " --option download-attempts 1 --option fallback true"
)
STORE = "/nix/store/" + "a" * 32


class Nix:
    """A fake nix. Its answers: a part of the command line, and stdout or (stdout, stderr, status)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answers = folder / "answers.json"
        (folder / "nix.py").write_text(FAKE_NIX)
        monkeypatch.setenv("HOLDFAST_NIX", json.dumps([sys.executable, str(folder / "nix.py")]))
        monkeypatch.setenv("FAKE_NIX_ANSWERS", str(self._answers))

    def answers(self, **answers: tuple[str, str, int] | str) -> None:
        whole = {key: (value, "", 0) if isinstance(value, str) else value for key, value in answers.items()}
        self._answers.write_text(json.dumps(whole))

    @property
    def asked(self) -> list[list[str]]:
        log = Path(f"{self._answers}.log")
        return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nix:
    return Nix(tmp_path, monkeypatch)


def test_system_is_built_from_its_derivations(nix: Nix, tmp_path: Path) -> None:
    nix.answers(
        build=f"{STORE}-system\n{STORE}-disko\n",
        **{"path-info": f"{STORE}-system\t  123456\n", "--version": "nix (Nix) 2.26.3\n"},
    )
    planned = system(mount_script=None)
    assert flake.build_system(planned, host(), tmp_path) == 123456
    assert flake.nix_version() == "2.26.3"
    (build,) = [asked for asked in nix.asked if "build" in asked]
    assert build[-2:] == [f"{planned.toplevel.drv}^*", f"{planned.disko_script.drv}^*"]
    assert build[build.index("--out-link") + 1] == str(tmp_path / "roots" / "system")
    assert not [word for word in build if "#" in word]


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("github:o/r#image", f"{LOCK.reference}#image"),
        ("github:o/r?dir=x#packages.x86_64-linux.image^out", f"{LOCK.reference}#packages.x86_64-linux.image^out"),
        ("github:o/r", f"{LOCK.reference}#"),
    ],
)
def test_kexec_image_is_built_from_the_locked_flake(nix: Nix, tmp_path: Path, reference: str, asked: str) -> None:
    lock = LOCK.model_copy(update={"flake": reference.partition("#")[0]})
    nix.answers(build=f"{STORE}-image\n")
    assert flake.kexec_image(host(kexec=reference), lock, tmp_path) == Path(f"{STORE}-image")
    assert nix.asked[0][-1] == asked
    nix.answers(build=("", "error: flake 'x' does not provide attribute 'image'", 1))
    with pytest.raises(ConfigError, match=r"no kexec image github:o/r.*kexec in the inventory"):
        flake.kexec_image(host(kexec=reference), lock, tmp_path)


@pytest.mark.parametrize("lock", [None, LOCK])
def test_kexec_image_of_a_flake_that_the_inventory_names_since(nix: Nix, tmp_path: Path, lock: Lock | None) -> None:
    said = {"locked": {"type": "git", "rev": "cd", "narHash": "sha256-x"}, "url": "github:o/r/cd", "path": STORE}
    nix.answers(metadata=json.dumps(said), build=f"{STORE}-image\n")
    flake.kexec_image(host(kexec="github:o/r#image"), lock, tmp_path)
    assert nix.asked[-1][-1] == "github:o/r/cd#image"


def test_kexec_image_that_is_a_file(nix: Nix, tmp_path: Path) -> None:
    nix.answers(build="")
    assert flake.kexec_image(host(kexec="/images/x.tar.gz"), None, tmp_path) == Path("/images/x.tar.gz")
    result = tmp_path / "result"
    result.symlink_to(f"{STORE}-image")
    path = result / "kexec.tar"
    assert flake.kexec_image(host(kexec=str(path)), None, tmp_path) == Path(f"{STORE}-image/kexec.tar")
    (kept,) = nix.asked
    assert kept[-1] == f"{STORE}-image"
    nix.answers(build=("", "error: path is not valid", 1))
    assert flake.kexec_image(host(kexec=str(path)), None, tmp_path) == path


@pytest.mark.parametrize(
    ("kexec", "of"),
    [
        ("/images/x.tar", ""),
        (f"https://x.example/i.tar#sha256={'ab' * 32}", ""),
        ("github:o/r?dir=x#image", "github:o/r?dir=x"),
        ("https://x.example/flake.tar.gz#image", "https://x.example/flake.tar.gz"),
    ],
)
def test_flake_of_an_image(kexec: str, of: str) -> None:
    assert flake.image_flake(host(kexec=kexec)) == of


@pytest.mark.parametrize("answer", ["oops", "[]", "{}", '{"storePath": 3}', '{"storePath": "x"}'])
def test_download_that_nix_says_nothing_about(nix: Nix, tmp_path: Path, answer: str) -> None:
    nix.answers(**{"prefetch-file": answer})
    with pytest.raises(ConfigError, match=r"unexpected answer about .*nix 2\.18"):
        flake.kexec_image(host(kexec=f"https://x.example/i.tar#sha256={'ab' * 32}"), None, tmp_path)


def test_copy_names_the_root_below_the_hosts_folder(nix: Nix) -> None:
    nix.answers()
    assert commands.copy(["/p"], "cottage", "/mnt")[-2:] == [
        "ssh-ng://cottage?compress=true&remote-store=local%3Froot=%2Fmnt",
        "/p",
    ]
    assert commands.copy(["/p"], "cottage", None)[-2:] == ["ssh-ng://cottage?compress=true", "/p"]


@pytest.mark.parametrize(
    ("told", "program"),
    [
        ({}, ""),
        ({"become": ("sudo", "-n")}, "sudo -n nix-daemon"),
        ({"substitute": True}, f"nix-daemon {BOUNDS}"),
        ({"substitute": True, "become": ("doas", "-n")}, f"doas -n nix-daemon {BOUNDS}"),
    ],
)
def test_copy_may_let_the_target_fetch(nix: Nix, told: dict[str, Any], program: str) -> None:
    nix.answers()
    command = commands.copy(["/p"], "cottage", "/mnt", **told)
    assert ("--substitute-on-destination" in command) == bool(told.get("substitute"))
    store = parse_qs(command[-2].partition("?")[2])
    assert store.get("remote-program", [""]) == [program]
    assert store["remote-store"] == ["local?root=/mnt"]
    # It may be without internet, and must not trust more keys than before.
    assert not any("keys" in word or "substituters" in word or "check-sigs" in word for word in program.split())


def test_copy_progress() -> None:
    progress = commands.CopyProgress()
    said = [
        progress.take(line)
        for line in (
            '@nix {"action":"start","id":1,"level":3,"type":103,"text":"copying 2 paths"}',
            '@nix {"action":"start","id":2,"level":3,"type":100,"text":"copying path \'/nix/store/x\'","fields":[]}',
            '@nix {"action":"result","id":2,"type":105,"fields":[500,1000,0,0]}',
            '@nix {"action":"result","id":2,"type":105,"fields":[1000,1000,0,0]}',
            '@nix {"action":"result","id":1,"type":105,"fields":[7777,1,1,0]}',
            '@nix {"action":"start","id":3,"level":3,"type":100,"text":"copying path \'/nix/store/y\'","fields":[]}',
            '@nix {"action":"result","id":3,"type":105,"fields":[10,20,0,0]}',
            '@nix {"action":"msg","level":5,"msg":"chatter"}',
            '@nix {"action":"msg","level":0,"msg":"error: broken"}',
            '@nix {"action":"stop","id":2}',
            '@nix {"action":"result","id":3,"type":105,"fields":[]}',
            "@nix {cut off",
            "Warning: from ssh",
        )
    ]
    assert progress.copied_bytes == 1010
    assert [text for text in said if text] == [
        "copying path '/nix/store/x'",
        "copying path '/nix/store/y'",
        "error: broken",
        "Warning: from ssh",
    ]


@pytest.mark.parametrize("output", ["", "/nix/store/x", "/nix/store/x many", "a b c"])
def test_invalid_closure_size(output: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        commands.parse_closure_size(output)


def test_local_command() -> None:
    lines: list[str] = []
    done = run_local(
        ["sh", "-c", 'echo out; echo "$X" >&2; printf last >&2; exit 3'],
        timeout_s=20,
        env={"X": "err\x1b"},
        on_line=lines.append,
        check=False,
    )
    assert (done.stdout, done.exit_status, done.host) == ("out\n", 3, "operator")
    assert lines == ["err\\x1b", "last"]
    with pytest.raises(CommandFailed, match="ended with status 3"):
        run_local(["sh", "-c", "exit 3"], timeout_s=20)
    assert run_local(["sh", "-c", "kill -9 $$"], timeout_s=20, check=False).exit_status == 137


@pytest.mark.parametrize(
    ("run", "hint"),
    [
        (lambda: run_local(["/absent/program"], timeout_s=20), "Install it."),
        (lambda: run_local(["/absent/program"], timeout_s=20, if_missing="Buy it."), "Buy it."),
        # A path that has `nix` in it says nothing about what the program is.
        (lambda: run_local(["/nix/store/absent/bin/age"], timeout_s=20), "Install it."),
        (lambda: commands.run(commands.version(), timeout_s=20), "Install Nix, or name its path in HOLDFAST_NIX."),
        (lambda: look_up(None, "cottage"), "Install OpenSSH's client."),
    ],
)
def test_who_runs_a_command_that_is_missing_says_what_to_do(
    run: Callable[[], object], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_NIX", '["/absent/nix"]')
    monkeypatch.setenv("PATH", "/absent")
    with pytest.raises(ConfigError, match=r"there is no command '.*' on the operator") as info:
        run()
    assert info.value.hint == hint


def test_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(DeadlinePassed, match="did not end within 1 s; last seen: busy"):
        run_local(["sh", "-c", f"echo busy >&2; sleep 300 & echo $! >{child}; wait"], timeout_s=1)
    pid = int(child.read_text())
    ends = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _runs(pid)


def test_what_a_command_left_behind_does_not_hold_it() -> None:
    done = run_local(["sh", "-c", "sleep 300 & echo done"], timeout_s=60)
    assert done.stdout == "done\n"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
