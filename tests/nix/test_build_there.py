"""What a target builds by itself: with a real nix on both sides, and an ssh that leads to this machine."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast.base.settings import script
from holdfast.nixcli import commands
from lab import final
from lab.nix import nix_wrapper
from lab.toolchain import tree_command
from tests.nix.test_substitutes import SSH

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab's nix needs root")
# A system of two derivations, and a file that the first one needs. A folder, because busybox does what its name says.
SYSTEM = """
let
  busybox = builtins.path { name = "builder"; path = @folder@/builder; };
  build = name: script: derivation {
    inherit name; system = builtins.currentSystem;
    builder = "${busybox}/busybox"; args = [ "sh" "-euc" script ];
  };
  part = build "part" "read -r said <${@folder@/file}; echo $said >$out";
in build "system" ''read -r said <${part}; { echo "$said"; pwd; } >$out; @more@''
"""
CONF = "sandbox = false\nbuild-users-group =\nsubstituters =\nbuild-hook =\nsandbox-paths =\n"


class Derivation(NamedTuple):
    """A derivation and what it builds."""

    drvPath: str  # noqa: N815  Nix's own names
    outPath: str  # noqa: N815


class Target:
    """The operator's nix, and a target: a store of its own in a folder, and a new root in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own, self.root = folder, folder / "own", folder / "root"
        self.root.mkdir()
        self.program = str(nix_wrapper(folder) / "nix")
        (folder / "builder").mkdir()
        shutil.copy(final.inputs() / "busybox" / "busybox", folder / "builder" / "busybox")
        (folder / "file").write_text("from the operator\n")
        programs = folder / "programs"
        programs.mkdir()
        conf = folder / "target.conf"
        conf.write_text(CONF)
        # Not /nix, which belongs to this machine.
        own = f"export NIX_CONFIG=\"$(cat {conf})\" NIX_REMOTE='local?root={self.own}' NIX_CACHE_HOME={folder}/cached"
        texts = {"ssh": SSH}
        for name in ("nix", "nix-store", "nix-daemon"):
            texts[name] = f'#!/bin/sh\n{own}\nexec {subprocess.list2cmdline(tree_command(name))} "$@"\n'
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def nix(self, *argv: str) -> str:
        done = subprocess.run(
            [self.program, *argv], env=self.env, capture_output=True, text=True, timeout=600, check=True
        )
        return done.stdout

    def evaluated(self, more: str = "") -> Derivation:
        """Evaluate the system, which is built nowhere yet, and copy its derivation as a run does."""
        text = SYSTEM.replace("@folder@", str(self.folder)).replace("@more@", more)
        drv, out = (
            self.nix("eval", "--impure", "--raw", "--expr", f"({text}).{part}") for part in ("drvPath", "outPath")
        )
        self.nix(*commands.copy([drv], "cottage", None)[1:])
        return Derivation(drv, out)

    def builds(self, root: Path | None, drv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["sh", "-c", script("installer/build-there.sh"), "build-there.sh", str(root or ""), "true", drv]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=600, check=check)

    def has(self, root: Path | None, path: str) -> bool:
        """Ask as holdfast/target/building.py does."""
        store = ["--store", f"local?root={root}"] if root else []
        argv = ["nix-store", *store, "--check-validity", path]
        return subprocess.run(argv, env=self.env, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_derivations_alone_are_copied_and_build_the_plans_path(target: Target) -> None:
    system = target.evaluated()
    assert (target.own / system.drvPath[1:]).exists()
    assert not target.has(None, system.outPath)
    said = target.builds(None, system.drvPath)
    assert target.has(None, system.outPath)
    assert said.stdout.split() == [system.outPath]
    assert not (target.root / "nix").exists()


def test_system_is_built_in_the_new_root(target: Target) -> None:
    system = target.evaluated()
    said = target.builds(target.root, system.drvPath)
    assert said.stdout.split() == [system.outPath]
    assert target.has(target.root, system.outPath)
    assert not target.has(None, system.outPath)
    # In a sandbox, whose root is not this machine's, although nix.conf has none.
    assert (target.root / system.outPath[1:]).read_text() == "from the operator\n/build\n"
    # The derivations are there too, and nothing of the work is left.
    assert (target.root / system.drvPath[1:]).exists()
    assert sorted(path.name for path in (target.root / "nix").iterdir()) == ["store", "var"]


def test_build_that_fails_says_why_and_leaves_nothing(target: Target) -> None:
    system = target.evaluated("echo no such luck >&2; exit 3")
    done = target.builds(target.root, system.drvPath, check=False)
    assert done.returncode != 0
    assert "no such luck" in done.stderr
    assert not target.has(target.root, system.outPath)
    assert sorted(path.name for path in (target.root / "nix").iterdir()) == ["store", "var"]


def test_what_it_would_take_is_known_before(target: Target) -> None:
    system = target.evaluated()
    ahead = ["nix-store", "--option", "substitute", "true", "--realise", "--dry-run", system.drvPath]
    done = subprocess.run(ahead, env=target.env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.startswith("these 2 derivations will be built:\n")
    assert not target.has(None, system.outPath)


def test_platforms_that_are_built_for_here(target: Target) -> None:
    def asked(system: str) -> subprocess.CompletedProcess[str]:
        # The lab's nix has a shell of this machine, since it has no sandbox.
        argv = [target.program, *commands.probe(system, "1")[1:]]
        return subprocess.run(argv, env=target.env, capture_output=True, text=True, timeout=60, check=False)

    here = target.nix("eval", "--impure", "--raw", "--expr", "builtins.currentSystem")
    assert asked(here).returncode == 0
    other = asked("riscv64-linux")
    assert other.returncode != 0
    assert " is required to build '" in other.stderr
