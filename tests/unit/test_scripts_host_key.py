"""host-key.sh: the installer offers the SSH host keys that were handed over, and makes no others."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "nix/scripts/installer/host-key.sh"


def make(folder: Path, kind: str, passphrase: str = "") -> None:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(folder / f"ssh_host_{kind}_key")]
    subprocess.run(command, check=True)


def run(shell: list[str], folder: Path) -> str:
    """Run the script; return the public half of the key that sshd's own unit finds."""
    subprocess.run([*shell, str(SCRIPT), str(folder)], check=True, timeout=60, env={"PATH": os.environ["PATH"]})
    link = folder / "holdfast_host_key"
    assert link.is_symlink() and link.resolve().parent == folder
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(link)], check=True, capture_output=True, text=True)
    return shown.stdout.split()[0]


@pytest.mark.parametrize(
    ("handed", "first"),
    [
        (("ed25519",), "ssh-ed25519"),
        (("ecdsa",), "ecdsa-sha2-nistp256"),
        (("rsa",), "ssh-rsa"),
        (("rsa", "ecdsa"), "ecdsa-sha2-nistp256"),
    ],
)
def test_what_was_handed_over_is_all_there_is(
    shell: list[str], tmp_path: Path, handed: tuple[str, ...], first: str
) -> None:
    for kind in handed:
        make(tmp_path, kind)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(shell, tmp_path) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.is_symlink()} == before


@pytest.mark.parametrize("broken", ["nothing", "empty", "text", "passphrase"])
def test_without_a_key_that_sshd_can_load_one_is_made(shell: list[str], tmp_path: Path, broken: str) -> None:
    key = tmp_path / "ssh_host_ed25519_key"
    if broken == "passphrase":
        make(tmp_path, "ed25519", "secret")
    elif broken != "nothing":
        key.write_text("" if broken == "empty" else "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    assert run(shell, tmp_path) == "ssh-ed25519"
    assert key.stat().st_mode & 0o777 == 0o600
    # The standby and the new system get it as they get any other.
    assert (tmp_path / "ssh_host_ed25519_key.pub").read_text().startswith("ssh-ed25519 ")


def test_a_broken_key_beside_a_good_one_is_passed_over(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_text("broken")
    make(tmp_path, "rsa")
    assert run(shell, tmp_path) == "ssh-rsa"
    assert (tmp_path / "ssh_host_ed25519_key").read_text() == "broken"


def test_it_runs_again_after_a_restart_of_sshd(shell: list[str], tmp_path: Path) -> None:
    assert run(shell, tmp_path) == "ssh-ed25519"
    made = (tmp_path / "ssh_host_ed25519_key").read_bytes()
    assert run(shell, tmp_path) == "ssh-ed25519"
    assert (tmp_path / "ssh_host_ed25519_key").read_bytes() == made
