"""Every command that a run sends to an origin, run for real with GNU's tools, and with busybox' alone.

Whole runs on the fake machine record what they send. It is run again, in its order, in a folder that stands for the
origin's root. So a command that is new, or changed, is tested here without a line of its own.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.cases import KEXEC_RUN
from tests.unit.programs import parse_command
from tests.unit.runs import Run
from tests.unit.target import RUN, FakeMachine, Sent
from tests.unit.test_facts import fake_root
from tests.unit.test_image import whole, write
from tests.unit.test_prove_origin import origin as origin
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "server", "log")

# What would change the machine that the tests run on, and what Alpine, OpenWrt and others do not have.
TOUCHING = ("reboot", "kexec", "tailscale", "poweroff", "systemctl", "systemd-run")
LACKING = (
    *("nohup", "flock", "lsblk", "udevadm", "stat", "install", "setsid", "od", "base64", "timeout", "realpath"),
    *("mountpoint", "comm", "tac", "xxd", "blockdev", "nproc", "hexdump", "split", "truncate"),
)
KINDS = ("gnu", "dash and busybox", "busybox", "small busybox")
FLOWS: dict[str, tuple[str, dict[str, object]]] = {
    "install": ("install", {}),
    "standard": ("install", {"way": "standard", "image": "image.tar"}),
    "rehearse": ("rehearse", {"origin": True}),
}
# Of what is here twice, the second only adds seconds.
ONCE = ("facts.sh", "way-back.sh", "cat", "lock.sh")


def sent_to_origin(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, flow: str) -> list[Sent]:
    """Return what a whole run sends to the origin."""
    name, told = FLOWS[flow]
    Run(monkeypatch, RUN, name, **told).start()
    assert "installer started by kexec" in machine.story
    found, seen = [], set()
    for sent in machine.sent:
        name = parse_command(sent.argv, sent.stdin).name
        if sent.system == "origin" and not (name in ONCE and name in seen):
            found.append(sent)
            seen.add(name)
    return found


def tools(folder: Path, kind: str) -> str:
    """Return a PATH with the tools of an origin; what would touch this machine only takes notes."""
    fakes = folder / "fakes"
    fakes.mkdir(parents=True)
    for name in TOUCHING if kind == "gnu" else ("reboot", "kexec", "tailscale"):
        (fakes / name).write_text("#!/bin/sh\nexit 0\n")
        (fakes / name).chmod(0o755)
    if kind == "gnu":
        return f"{fakes}:{os.environ['PATH']}"
    applets = folder / "busybox"
    applets.mkdir()
    subprocess.run([str(shutil.which("busybox")), "--install", "-s", str(applets)], check=True)
    if kind == "dash and busybox":
        (applets / "sh").unlink()
        (applets / "sh").symlink_to(str(shutil.which("dash")))
    for name in (*TOUCHING, *(LACKING if kind == "small busybox" else ())):
        (applets / name).unlink(missing_ok=True)
    return f"{fakes}:{applets}"


def below(root: Path, argv: Sequence[str]) -> list[str]:
    """Return a command whose paths are below the folder; the texts of scripts find it by HOLDFAST_ROOT."""
    return [f"{root}{word}" if word.startswith(("/var/", "/run/", "/proc/")) else word for word in argv]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flow", FLOWS)
def test_origin_understands_all_that_is_sent(
    origin: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "image.tar", whole(run=f"#!/bin/sh\n{KEXEC_RUN}".encode()), "w")
    sent = sent_to_origin(origin, monkeypatch, flow)
    names = {parse_command(one.argv, one.stdin).name for one in sent}
    assert {"facts.sh", "lock.sh", "read-state.sh", "upload-append.sh", "start-alone.sh"} <= names
    state = {"var/lib/tailscale/tailscaled.state": "{}", "proc/uptime": "100.0 50.0\n", "proc/stat": "btime 1\n"}
    root = fake_root(tmp_path / "root", state)
    shutil.rmtree(root / "run/systemd")
    path = tools(tmp_path / "tools", kind)
    for one in sent:
        done = subprocess.run(
            below(root, one.argv),
            input=one.stdin,
            capture_output=True,
            env={"PATH": path, "HOLDFAST_ROOT": str(root)},
            check=False,
            timeout=120,
        )
        told = f"{parse_command(one.argv, one.stdin)}: {done.stderr.decode(errors='replace')}"
        assert done.returncode == one.status, told
        for word in ("usage:", "nrecognized option", "nvalid option", "not found", "unknown"):
            assert word not in done.stderr.decode(errors="replace").lower(), told
    ours = root / "var/lib/holdfast"
    assert ours.stat().st_mode & 0o777 == 0o700
    [runner] = ours.glob("*/kexec/run")
    assert runner.parents[1].stat().st_mode & 0o777 == 0o700
    assert runner.parents[1].with_suffix(".tar").is_file()


def test_what_is_sent_is_recorded_as_it_is(origin: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_to_origin(origin, monkeypatch, "rehearse")
    texts = [word for one in sent for word in (*one.argv, one.stdin.decode(errors="replace"))]
    for name in ("origin/reboot.sh", "origin/own-session.sh", "origin/start-alone.sh", "any/facts.sh"):
        assert script(name) in texts
