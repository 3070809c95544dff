"""An install by nixos-anywhere in the same lab, for comparison: its own script, unchanged, from the user's checkout."""

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from lab.final import flake_dir
from lab.image import installer_image
from lab.nix import nix_wrapper
from lab.runtime import Lab

INSTALL_S: Final = 1800
ANSWER_S: Final = 600
PARTS_BUILT: Final = ("diskoScript", "mountScript", "toplevel")
NIX_OPTIONS: Final = ("--extra-experimental-features", "nix-command flakes", "--no-write-lock-file")


def script_of(checkout: Path) -> Path:
    """Return the script of a checkout of nixos-anywhere.

    Raises:
        FileNotFoundError: the folder is none.

    """
    script = checkout / "src" / "nixos-anywhere.sh"
    if not script.is_file():
        raise FileNotFoundError(f"{checkout} is no checkout of nixos-anywhere: it has no src/nixos-anywhere.sh")
    return script.resolve()


def build(lab: Lab) -> str:
    """Build all that an install needs into the store of the lab's Nix, so that no build is measured; return the system.

    Raises:
        CalledProcessError: it cannot be built.

    """
    flake, env, built = flake_dir(lab.run_dir), environment(lab), ""
    for part in PARTS_BUILT:
        attribute = f"path:{flake}#nixosConfigurations.cottage.config.system.build.{part}"
        command = ["nix", "build", "--print-out-paths", "--no-link", *NIX_OPTIONS, attribute]
        built = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return built


def install(lab: Lab, script: Path, system: str) -> tuple[float, float]:
    """Install over the tailnet; return the seconds until it says that it is done, and until the new system answers.

    Raises:
        RuntimeError: it failed, or the new system does not answer.

    """
    flags = ["--flake", f"path:{lab.run_dir.resolve()}/flake#cottage", "--kexec", str(installer_image())]
    # The lab's flake has no nix.settings, and there is nothing to fetch from.
    flags += ["--copy-host-keys", "--build-on", "local", "--no-use-machine-substituters"]
    began = time.monotonic()
    with (lab.run_dir / "nixos-anywhere.log").open("wb") as log:
        done = subprocess.run(
            ["bash", str(script), *flags, "-i", str(lab.key), "root@cottage"],
            env=environment(lab),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_S,
            check=False,
        )
    done_s = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"nixos-anywhere failed. Its output is in {log.name}.")
    while _booted(lab) != system:
        if time.monotonic() - began > done_s + ANSWER_S:
            raise RuntimeError(f"nixos-anywhere was done, but the new system did not answer in {ANSWER_S} s.")
        time.sleep(0.2)
    return done_s, time.monotonic() - began


def _booted(lab: Lab) -> str:
    """Return the system that the machine has booted; empty if it does not answer."""
    command = ["ssh", "-F", str(lab.ssh_config), "-o", "ConnectTimeout=3", "cottage", "readlink", "-f"]
    try:
        done = subprocess.run([*command, "/run/booted-system"], capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def environment(lab: Lab) -> dict[str, str]:
    """Return an environment whose `ssh` reaches the machine over the tailnet, also for ssh-copy-id and nix copy."""
    folder = lab.run_dir / "nixos-anywhere"
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    ssh = folder / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F "{lab.ssh_config}" "$@"\n')
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{nix_wrapper(lab.run_dir)}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(folder)}
