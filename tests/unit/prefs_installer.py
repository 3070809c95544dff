"""An installer and a new root, in folders, for the tests of what goes from the one to the other."""

import base64
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.toolchain import tree_command

SCRIPTS = Path(__file__).parents[2] / "nix/scripts"
BIG = 1234567890123456789
OFF = {
    "ShieldsUp": False,
    "ExitNodeID": "",
    "ExitNodeIP": "",
    "AutoExitNode": "",
    "AdvertiseRoutes": None,
    "RouteAll": False,
}
ORIGIN_PREFS = {
    "ControlURL": "https://control.example",
    "ShieldsUp": True,
    "ExitNodeID": "nExit",
    "ExitNodeIP": "100.64.0.9",
    "AdvertiseRoutes": ["10.0.0.0/8", "0.0.0.0/0"],
    "RouteAll": True,
    "RunSSH": True,
    "WantRunning": True,
    "NotYetInvented": {"number": BIG, "list": [1.50, None], "text": 'é "q" \\ <&>'},
    "Config": {"NodeID": "n1", "UserProfile": {"ID": BIG}},
}


def jq_keeps_numbers(command: list[str]) -> bool:
    said = subprocess.run([*command, "-c", "fromjson"], input=f'"{BIG}"', capture_output=True, text=True, check=False)
    return said.stdout.strip() == str(BIG)


def jq_folder(folder: Path) -> Path:
    """Fill a folder for PATH with a jq that keeps large numbers, this machine's or the lab's."""
    command = ["jq"]
    if shutil.which("jq") is None or not jq_keeps_numbers(command):
        if os.geteuid() != 0:
            pytest.skip("no jq 1.7 here, and only root can make the lab's")
        command = tree_command("jq")
        (folder / "jq").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (folder / "jq").chmod(0o755)
    if os.geteuid() != 0:
        (folder / "chown").write_text("#!/bin/sh\n")
        (folder / "chown").chmod(0o755)
    return folder


def packed(prefs: object) -> str:
    return base64.b64encode(json.dumps(prefs).encode()).decode()


def unpacked(value: str) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(value)))


class Installer:
    """A folder that stands for the installer's root, with a new root beside it."""

    def __init__(self, folder: Path, tools: Path, shell: list[str]) -> None:
        self.root = folder / "installer"
        self.new_root = folder / "mnt"
        self.shell = shell
        self.env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.root)}
        self.state = self.root / "var/lib/tailscale/tailscaled.state"
        self.saved = self.root / "run/holdfast/prefs.json"
        self.state.parent.mkdir(parents=True, mode=0o700)
        self.saved.parent.mkdir(parents=True)
        self.new_root.mkdir()
        self.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n")
        self.write("etc/machine-id", "0" * 32 + "\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "private")
        self.write("etc/ssh/ssh_host_ed25519_key.pub", "public")
        self.set_state({"_machinekey": packed("key"), "profile-1": packed(ORIGIN_PREFS)})

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def set_state(self, values: dict[str, str]) -> None:
        self.state.write_text(json.dumps(values, indent=2))
        self.state.chmod(0o600)

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [*self.shell, str(SCRIPTS / "installer" / script), *map(str, arguments)]
        return subprocess.run(
            command, env=self.env | environment, capture_output=True, text=True, timeout=30, check=False
        )

    def prefs_script(self, verb: str) -> str:
        """Run tailscale-prefs.sh; return what it had to say."""
        done = self.run("tailscale-prefs.sh", verb, self.state, self.saved)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return done.stderr

    def prefs(self, profile: str = "profile-1") -> dict[str, Any]:
        return unpacked(json.loads(self.state.read_text())[profile])

    def carry(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run("carry-over.sh", *arguments)

    @property
    def carried(self) -> Path:
        return self.new_root / "var/lib/tailscale/tailscaled.state"


SYSTEM = "/nix/store/0c1-nixos-system-cottage"


def persistent(installer: Installer, text: str) -> Path:
    file = installer.new_root / SYSTEM[1:] / "holdfast-persistent-root"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file
