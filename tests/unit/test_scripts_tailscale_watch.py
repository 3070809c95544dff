"""tailscale-watch.sh: a tailscaled that hangs is restarted, and one that is only slow is not."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("sh", "cat")
SCRIPT = script("installer/tailscale-watch.sh")
# Each look takes the next line of the story: what systemd says of tailscaled, and what tailscaled answers.
SLEEP = """#!/bin/sh
read -r state answer <"$STORY" || exit 1
echo "$state" >"$STORY.state"; echo "$answer" >"$STORY.answer"
{ read -r _; cat; } <"$STORY" >"$STORY.rest"; cat "$STORY.rest" >"$STORY"
echo look >>"$CALLS"
"""
SYSTEMCTL = """#!/bin/sh
case $1 in is-active) cat "$STORY.state"; exit 3 ;; *) echo "$*" >>"$CALLS" ;; esac
"""
TIMEOUT = """#!/bin/sh
[ "$2 $3 $4" = "tailscale status --json" ] || exit 9
case $(cat "$STORY.answer") in
hangs) exit 124 ;;
refused) echo "failed to connect to local tailscaled" >&2; exit 1 ;;
NeedsLogin) echo '{"BackendState": "NeedsLogin"}'; exit 1 ;;
*) echo "{\\"BackendState\\": \\"$(cat "$STORY.answer")\\"}" ;;
esac
"""
RESTART = ["kill --signal=SIGKILL tailscaled.service", "reset-failed tailscaled.service"]
RESTART += ["restart --no-block tailscaled.service"]

UP, HANGS = ["active Running"], ["active hangs"]


def restarts(userland: Userland, folder: Path, story: list[str]) -> list[int]:
    """Return after how many looks each restart came."""
    tools = folder / "fakes"
    tools.mkdir()
    for name, text in (("sleep", SLEEP), ("systemctl", SYSTEMCTL), ("timeout", TIMEOUT)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    (folder / "story").write_text("".join(f"{line}\n" for line in story))
    done = subprocess.run(
        [*userland.shell, "-s"],
        env={"PATH": f"{tools}:{userland.path}", "STORY": str(folder / "story"), "CALLS": str(calls)},
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    found, looks, lines = [], 0, calls.read_text().splitlines()
    for number, line in enumerate(lines):
        looks += line == "look"
        if line == RESTART[0]:
            assert lines[number : number + 3] == RESTART
            found.append(looks)
    assert looks == len(story)
    assert done.stderr.count("restarting it") == len(found)
    return found


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param(UP * 5, [], id="well"),
        pytest.param(UP + HANGS * 3, [4], id="hangs"),
        pytest.param(UP + ["active refused"] * 3, [4], id="socket is gone"),
        pytest.param(UP + HANGS * 2 + UP + HANGS * 2, [], id="answers now and then"),
        pytest.param(UP + HANGS * 3 + UP + HANGS * 3, [4, 8], id="hangs twice"),
        pytest.param(["active NeedsLogin"] * 30, [], id="a login is an answer"),
        pytest.param(["active Stopped"] * 30, [], id="stopped is an answer"),
        pytest.param(HANGS * 19 + UP * 3, [], id="slow at boot"),
        pytest.param(HANGS * 90, [20, 40, 80], id="never comes: each time it gets longer"),
        pytest.param(UP + HANGS * 70, [4, 24, 64], id="does not come back"),
        pytest.param(HANGS * 20 + UP + HANGS * 3, [20, 24], id="comes after a restart"),
        pytest.param(["activating x"] * 40, [], id="systemd waits for it"),
        pytest.param(["inactive x"] * 40, [], id="somebody stopped it"),
        pytest.param(UP + ["failed x"] * 3, [4], id="systemd gave it up"),
        pytest.param(UP + HANGS * 2 + ["inactive x"] + HANGS * 2, [], id="stopped meanwhile"),
    ],
)
def test_restarts(userland: Userland, tmp_path: Path, story: list[str], expected: list[int]) -> None:
    assert restarts(userland, tmp_path, story) == expected
