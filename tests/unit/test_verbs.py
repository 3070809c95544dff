"""The verbs of `./just` on machines that lack something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
JUST = Path(sys.executable).parent / "just"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a shell and little else."""
    for name in ("sh", "bash", "readlink"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    return os.environ | {"PATH": str(tmp_path)}


def test_build_kexec_without_nix_says_what_to_install(bare: dict[str, str]) -> None:
    done = subprocess.run([JUST, "build-kexec"], cwd=PROJECT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("build-kexec: there is no nix on this machine. Hint: install it,")


def test_build_kexec_builds_the_image_with_flakes_switched_on(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "nix").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "nix").chmod(0o755)
    done = subprocess.run([JUST, "build-kexec"], cwd=PROJECT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--extra-experimental-features|nix-command flakes|build|.#kexec-tailscale|")


def test_every_verb_finds_the_environment_that_the_bootstrap_made(tmp_path: Path) -> None:
    env = os.environ | {"HOLDFAST_VENV": str(tmp_path / "elsewhere")}
    command = [str(JUST), "--evaluate", "python"]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == str(tmp_path / "elsewhere" / "bin" / "python")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("install", ["cottage"]),
        ("install", ["cottage", "100.64.0.2"]),
        ("install", ["cottage", "100.64.0.2", "./a b"]),
        ("reinstall", ["cottage"]),
        ("reinstall", ["cottage", "100.64.0.2", "./a b"]),
        ("rehearse", ["cottage"]),
        ("rehearse", ["cottage", "100.64.0.2", "./a b"]),
        ("rehearse", ["cottage", "--origin"]),
        ("rehearse", ["cottage", "100.64.0.2", "./a b", "--origin"]),
        ("plan", ["cottage"]),
        ("plan", ["cottage", "100.64.0.2", "./a b"]),
        ("vault", ["list"]),
        ("vault", ["restore", "cottage", "./a b"]),
    ],
)
def test_verb_hands_its_arguments_on_as_they_are(tmp_path: Path, verb: str, arguments: list[str]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    env = os.environ | {"HOLDFAST_VENV": str(tmp_path)}
    done = subprocess.run([JUST, verb, *arguments], cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    said = done.stdout.removesuffix("|").split("|")
    module = [f"deployments.{verb}"] if verb in ("plan", "vault") else ["deployments.start", verb]
    expected = ["-m", *module, *arguments]
    assert said[: len(expected)] == expected
    assert not any(said[len(expected) :])


def test_rehearse_without_a_host_is_refused() -> None:
    done = subprocess.run([JUST, "rehearse"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "rehearse" in done.stderr
