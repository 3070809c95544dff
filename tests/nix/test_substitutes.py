"""What the target fetches by itself: with a real nix on both sides, and an ssh that leads to this machine."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from holdfast.nixcli import commands
from lab.nix import nix_wrapper
from lab.toolchain import tree_command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab's nix needs root")
SSH = (
    '#!/bin/sh\n[ "$1" != -O ] || exit 1\nwhile [ "$1" != -- ]; do shift; done\nshift\necho started\nexec sh -c "$*"\n'
)
# Its name comes from what builds it, so only a signature says what is in it.
THING = (
    'derivation { name = "thing"; system = builtins.currentSystem;'
    ' builder = "/bin/sh"; args = [ "-c" "echo hi > $out" ]; }'
)


class Target:
    """A store in a folder, a cache that has one path, and a nix that copies to the store."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.store = folder, folder / "target"
        self._nix = str(nix_wrapper(folder) / "nix")
        programs = folder / "programs"
        programs.mkdir()
        inside = subprocess.list2cmdline(tree_command("nix-daemon"))
        conf = folder / "target.conf"
        env = f'NIX_CONFIG="$(cat {conf})" NIX_REMOTE= NIX_CACHE_HOME={folder}/cached'
        daemon = f'#!/bin/sh\nexport {env}\nexec {inside} "$@"\n'
        for name, text in (("ssh", SSH), ("nix-daemon", daemon)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self._env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        self.path = self.nix("build", "--impure", "--print-out-paths", "--no-link", "--expr", THING).stdout.strip()
        (folder / "secret").write_text(self.nix("key", "generate-secret", "--key-name", "k").stdout)
        with (folder / "secret").open() as secret:
            self.key = self.nix("key", "convert-secret-to-public", stdin=secret).stdout
        self.cache = f"file://{folder}/cache"
        self.nix("copy", "--to", f"{self.cache}?secret-key={folder}/secret", self.path)

    def nix(self, *argv: str, stdin: IO[str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._nix, *argv],
            stdin=stdin or subprocess.DEVNULL,
            env=self._env,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )

    def copy(self, substituter: str, key: str) -> str:
        """Copy the path as a run does; return what nix says."""
        said = f"substituters = {substituter}\ntrusted-public-keys = {key}\nsandbox = false\nbuild-users-group =\n"
        (self._folder / "target.conf").write_text(said)
        command = commands.copy([self.path], "cottage", str(self.store), substitute=True)
        return self.nix(*command[1:]).stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("substitutes"))


@pytest.fixture
def target(made: Target) -> Iterator[Target]:
    subprocess.run(["rm", "-rf", made.store, made.store.with_name("cached")], check=True)
    made.store.mkdir()
    yield made
    assert (made.store / made.path.removeprefix("/")).read_text() == "hi\n"


def fetched(said: str) -> bool:
    """Return whether the target fetched it, so that nothing was left to send."""
    return "copying 0 paths" in said


def test_path_with_a_trusted_signature_is_fetched(target: Target) -> None:
    assert fetched(target.copy(target.cache, target.key))


def test_path_without_a_trusted_signature_is_sent(target: Target) -> None:
    said = target.copy(target.cache, "")
    assert not fetched(said)
    assert "not signed by any of the keys" in said


def test_target_without_internet_gets_all(target: Target) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and not listened on: refused at once
        said = target.copy(f"http://127.0.0.1:{nobody.getsockname()[1]}", target.key)
    assert not fetched(said)
    assert "disabling binary cache" in said
