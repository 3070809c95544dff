"""The image without Holdfast on the operator: the steps of an unmodified nixos-anywhere, with only ssh and nix.

Each function does what the function of its name does in nixos-anywhere's src/nixos-anywhere.sh (July 2026), with the
same files, flags and order, as `--flake .#cottage --kexec ./result --copy-host-keys` would. Only the assertions in
between are ours.
"""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from lab.final import flake_dir
from lab.image import installer_image
from lab.nix import nix_wrapper
from lab.runtime import Lab

pytestmark = pytest.mark.lab

RETURN_S: Final = 180
STEP_S: Final = 180
BUILD: Final = "nixosConfigurations.cottage.config.system.build"
NIX_OPTIONS: Final = ("--extra-experimental-features", "nix-command flakes", "--no-write-lock-file")
STORE_SETTINGS: Final = "compress=true"
STATE: Final = "/var/lib/tailscale/tailscaled.state"
PREFS: Final = {"ShieldsUp": True, "AdvertiseRoutes": ["10.99.0.0/24"], "RunSSH": True}
"""Preferences of the origin that, in the installer, would cut the operator off or mislead other nodes."""


class Operator:
    """A machine with ssh, nix and access to the tailnet.

    `local` goes around the tailnet, which nixos-anywhere cannot: for a machine that the tailnet does not reach.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.env = os.environ | {
            "PATH": f"{nix_wrapper(lab.run_dir)}:{os.environ['PATH']}",
            "NIX_SSHOPTS": f"-F {lab.ssh_config}",
        }

    def _ssh(self, local: bool) -> Sequence[str]:
        if local:
            return self.lab.world.ssh_command(self.lab.key, self.lab.run_dir / "known_hosts")[:-1]
        return ["ssh", "-T", "-F", str(self.lab.ssh_config), "root@cottage"]

    def run(self, command: str, stdin: bytes = b"", *, local: bool = False) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._ssh(local), command], input=stdin, capture_output=True, timeout=STEP_S, check=False
        )

    def ssh(self, command: str, stdin: bytes = b"", *, local: bool = False) -> str:
        done = self.run(command, stdin, local=local)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout.decode()

    def answers(self, local: bool) -> bool:
        try:
            argv = [*self._ssh(local), "exit 0"]
            return subprocess.run(argv, capture_output=True, timeout=10, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait_until(self, answering: bool, *, local: bool = False) -> None:
        ends = time.monotonic() + RETURN_S
        while self.answers(local) is not answering:
            serial = (self.lab.run_dir / "serial.log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < ends, f"answering is not {answering}; the console ends with:\n{serial}"
            time.sleep(1)

    def nix(self, *arguments: str) -> str:
        done = subprocess.run(["nix", *arguments], env=self.env, capture_output=True, text=True, timeout=STEP_S)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def node(self) -> dict[str, Any]:
        """Return the machine as the operator's tailscaled sees it."""
        status = subprocess.run([*self.lab.tailscale, "status", "--json"], check=True, capture_output=True, timeout=30)
        peers = json.loads(status.stdout)["Peer"].values()
        peer = next(peer for peer in peers if self.lab.address in peer["TailscaleIPs"])
        return {key: peer[key] for key in ("ID", "PublicKey", "TailscaleIPs", "HostName")}

    def prefs(self) -> dict[str, Any]:
        """Return the preferences of `PREFS`, with the values that the machine's tailscaled has."""
        prefs = json.loads(self.ssh("tailscale debug prefs", local=True))
        return {key: prefs[key] for key in PREFS}

    def boot_id(self) -> str:
        return self.ssh("cat /proc/sys/kernel/random/boot_id", local=True)


@pytest.fixture
def operator(lab: Lab) -> Operator:
    lab.start_over()
    return Operator(lab)


def build(operator: Operator, attribute: str) -> str:
    flake = f"path:{operator.lab.run_dir}/flake#{BUILD}.{attribute}"
    return operator.nix("build", "--print-out-paths", "--no-link", *NIX_OPTIONS, flake)


def is_installer(operator: Operator) -> bool:
    """Do what src/get-facts.sh does."""
    release = operator.ssh("cat /etc/os-release")
    return bool(re.search('ID(_LIKE)?="?nixos"?', release) and re.search('VARIANT_ID="?installer"?', release))


def run_kexec(operator: Operator, kexec: Path, *, local: bool) -> str:
    """Upload a file as it is, unpack it as its name demands, start it; return its output."""
    assert kexec.is_file()
    assert not re.search(r"\.tar\.(gz|xz|zst)$", str(kexec))  # so tar gets no flag to decompress
    script = """
# Run kexec commands with sudo if needed
{
  set -eu
  cd "$HOME/kexec"
  cat "$HOME/kexec/kexec-tarball.tar.gz" | tar -xv
  TMPDIR="$HOME/kexec" setsid --wait "$HOME/kexec/kexec/run" --kexec-extra-flags ''
} 2>&1 | tee "$HOME/kexec/nixos-anywhere.log" || true

if ! grep -q 'machine will boot into nixos' "$HOME/kexec/nixos-anywhere.log"; then
  exit 1
fi
"""
    upload = 'mkdir -p "$HOME/kexec" && cat > "$HOME/kexec/nixos-anywhere-kexec.sh"'
    operator.ssh(upload, script.encode(), local=local)
    operator.ssh('cat > "$HOME/kexec/kexec-tarball.tar.gz"', kexec.read_bytes(), local=local)
    return operator.ssh('bash "$HOME/kexec/nixos-anywhere-kexec.sh"', local=local)


def wait_for_installer(operator: Operator) -> None:
    """Do what `run_kexec` does at its end: wait until the machine is gone, and until root can log in again."""
    operator.wait_until(answering=False)
    operator.wait_until(answering=True)
    assert is_installer(operator)


def run_disko(operator: Operator, disko_script: str) -> None:
    to = f"ssh://root@cottage?{STORE_SETTINGS}"
    operator.nix("copy", *NIX_OPTIONS, "--substitute-on-destination", "--to", to, disko_script)
    operator.ssh(disko_script)


def copy_system(operator: Operator, system: str) -> None:
    to = f"ssh://root@cottage?remote-store=local%3Froot=%2Fmnt&{STORE_SETTINGS}"
    operator.nix("copy", *NIX_OPTIONS, "--substitute-on-destination", "--to", to, system)


def nixos_install(operator: Operator, system: str, before: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run the script that `nixosInstall` gives to sh; `before` is an addition of the tests."""
    script = f"""
set -eu
export PATH="$PATH:/run/current-system/sw/bin"
{before}
if [ ! -d "/mnt/tmp" ]; then
  mkdir -p /mnt/tmp
  chmod 777 /mnt/tmp
fi
mkdir -m 755 -p /mnt/etc/ssh
for p in /etc/ssh/ssh_host_*; do
  if [ ! -e "$p" ] || [ -e "/mnt/$p" ]; then
    continue
  fi
  cp -a "$p" "/mnt/$p"
done
nixos-install --no-root-passwd --no-channel-copy --system "{system}"
"""
    return operator.run("sh", script.encode())


def nixos_reboot(operator: Operator) -> None:
    operator.ssh("sh", b"nohup sh -c 'sleep 6 && reboot' >/dev/null 2>&1 &\n")
    operator.wait_until(answering=False)


def profile(state: str) -> dict[str, Any]:
    """The preferences of the only profile in a state."""
    [value] = [value for key, value in json.loads(state).items() if key.startswith("profile-")]
    return dict(json.loads(base64.b64decode(value)))


def installed(operator: Operator, system: str, before: str = "") -> str:
    done = nixos_install(operator, system, before)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


def test_a_machine_with_its_live_state_and_preferences_that_lock_out(operator: Operator, tmp_path: Path) -> None:
    lab = operator.lab
    flake_dir(lab.run_dir)
    result = tmp_path / "result"
    result.symlink_to(installer_image())
    disko_script, system = build(operator, "diskoScript"), build(operator, "toplevel")
    origin, origin_boot = operator.node(), operator.boot_id()
    operator.ssh("tailscale set --advertise-routes=10.99.0.0/24 --ssh --shields-up", local=True)
    assert operator.prefs() == PREFS
    operator.wait_until(answering=False)

    said = run_kexec(operator, result, local=True)
    assert "hands over the Tailscale state in /var/lib/tailscale\n" in said
    wait_for_installer(operator)
    assert operator.node() == origin
    assert operator.prefs() == {"ShieldsUp": False, "AdvertiseRoutes": None, "RunSSH": False}
    installer_boot = operator.boot_id()

    run_disko(operator, disko_script)
    copy_system(operator, system)
    assert "nixos-install: carried into the new root: tailscale-state\n" in installed(operator, system)
    carried, live = (profile(operator.ssh(f"cat {root}{STATE}")) for root in ("/mnt", ""))
    assert {key: carried[key] for key in PREFS} == PREFS
    assert carried["Config"] == live["Config"]
    nixos_reboot(operator)

    operator.wait_until(answering=True, local=True)
    assert len({origin_boot, installer_boot, operator.boot_id()}) == 3
    assert operator.ssh("readlink -f /run/booted-system", local=True).strip() == system
    assert operator.prefs() == PREFS
    # With --ssh Tailscale answers on port 22 itself, but the lab's has no SSH built in.
    operator.ssh("tailscale set --shields-up=false --ssh=false", local=True)
    operator.wait_until(answering=True)
    assert operator.node() == origin


@pytest.mark.options
def test_a_machine_with_an_uploaded_archive(operator: Operator, tmp_path: Path) -> None:
    flake_dir(operator.lab.run_dir)
    result = tmp_path / "result"
    result.symlink_to(installer_image())
    disko_script, system = build(operator, "diskoScript"), build(operator, "toplevel")
    origin, origin_boot = operator.node(), operator.boot_id()
    operator.ssh("umask 077; tar -C /var/lib/tailscale -czf /tmp/tailscale-state.tar.gz .")

    said = run_kexec(operator, result, local=False)
    assert "hands over the Tailscale state in /tmp/tailscale-state.tar.gz\n" in said
    wait_for_installer(operator)
    assert operator.node() == origin
    mark = json.loads(operator.ssh("cat /run/holdfast/installer.json"))
    assert (mark["state"], mark["run_id"]) == ("restored", None)

    run_disko(operator, disko_script)
    copy_system(operator, system)
    check_the_wrapper(operator, system)
    nixos_reboot(operator)

    operator.wait_until(answering=True)
    assert operator.boot_id() not in (origin_boot, mark["origin_boot_id"])
    assert operator.ssh("readlink -f /run/booted-system").strip() == system
    assert json.loads(operator.ssh("tailscale status --json --peers=false"))["Self"]["PublicKey"] == origin["PublicKey"]
    assert operator.node() == origin


def check_the_wrapper(operator: Operator, system: str) -> None:
    """Install several times; the last time without any change."""
    carried = f"cat /mnt{STATE} 2>/dev/null || true"

    installed(operator, system, "export HOLDFAST_CARRY_OVER=no")
    assert operator.ssh(carried) == ""

    saved = "/run/holdfast/prefs.json"
    operator.ssh(f"cp {saved} /tmp/saved")
    try:
        done = nixos_install(operator, system, f"echo broken >{saved}")
    finally:
        operator.ssh(f"cp /tmp/saved {saved}")
    assert done.returncode == 1
    assert b"the origin's Tailscale preferences could not be put back" in done.stderr
    assert b"the system is installed, but without its Tailscale state" in done.stderr
    assert operator.ssh(carried) == ""

    theirs = f"mkdir -p /mnt/var/lib/tailscale; echo theirs >/mnt{STATE}"
    assert "has a Tailscale state of its own, which stays" in installed(operator, system, theirs)
    assert operator.ssh(carried) == "theirs\n"

    assert "carried into the new root" in installed(operator, system, f"rm -r /mnt{Path(STATE).parent}")
    operator.ssh("tailscale set --nickname=newer")
    assert profile(operator.ssh(carried)).get("ProfileName", "") != "newer"
    assert "carried into the new root" in installed(operator, system)
    assert profile(operator.ssh(carried))["ProfileName"] == "newer"
