"""Nix for the tests: evaluates Holdfast's flake with the stubs of this folder in the place of its inputs."""

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from lab.nix import nix_wrapper

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
STUBS = {name: HERE / "stub" / name for name in ("nixpkgs", "nixos-images", "disko")}
SYSTEMS = ("x86_64-linux", "aarch64-linux")
COMMAND_S = 120


class Nix:
    """The lab's Nix, with a store of its own in `folder`; needs root.

    Expressions see what `evaluate.nix` has, such as `image "x86_64-linux" { … }` and `holdfast`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = str(nix_wrapper(folder) / "nix")
        self.evaluate = functools.cache(self._evaluate)
        self.packages = functools.cache(self._packages)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)

    def _expression(self, expression: str) -> subprocess.CompletedProcess[str]:
        return self.run("eval", "--impure", "--json", "--expr", f"with import {HERE}/evaluate.nix;\n{expression}")

    def _evaluate(self, expression: str) -> Any:
        done = self._expression(expression)
        assert done.returncode == 0, f"{expression}\n{done.stderr}"
        return json.loads(done.stdout)

    def refusal(self, expression: str) -> str:
        """Return what Nix says against the expression."""
        done = self._expression(expression)
        assert done.returncode != 0, f"{expression}\ngives {done.stdout}"
        return done.stderr

    def _packages(self, expression: str) -> dict[str, dict[str, str]]:
        """Return the package that the expression names and all that goes into it, by path: what each is made from."""
        shown = self.run("derivation", "show", "--recursive", self.evaluate(f"({expression}).drvPath"))
        assert shown.returncode == 0, shown.stderr
        derivations = json.loads(shown.stdout).values()
        return {derivation["outputs"]["out"]["path"]: derivation["env"] for derivation in derivations}

    def stored(self, path: str) -> Path:
        """Return where a file of the store is on this machine."""
        return self.folder / "nix" / Path(path).relative_to("/")

    @functools.cached_property
    def flake(self) -> Path:
        """A copy of what the flake consists of, as a user has it."""
        copy = self.folder / "holdfast"
        copy.mkdir()
        for name in ("flake.nix", "flake.lock", "just"):
            shutil.copy2(ROOT / name, copy)
        shutil.copytree(ROOT / "nix", copy / "nix")
        return copy

    def on_flake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `nix` on the flake itself, with its inputs overridden on the command line."""
        overrides = [part for name, stub in STUBS.items() for part in ("--override-input", name, f"path:{stub}")]
        command = [*arguments, *overrides, "--no-write-lock-file", "--offline"]
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done
