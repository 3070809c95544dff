"""Boots an installer image of the lab by itself, with what its own kexec/run packs."""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.qemu import BIOS, Disk, Hardware, Kernel, VirtualMachine, make_disk

MACHINE_ID = "0123456789abcdef0123456789abcdef"
DEAD_MAN_S = 700
BOOT_S = 180
WATCHED_S = 30
"""Until the watch has heard tailscaled once, in seconds; it looks every 5 s."""
BEHIND_S = 3 * 365 * 86400
"""How far the hardware clock is behind, in seconds."""
ADDRESSES = [
    {
        "ifname": "ens3",
        "link_type": "ether",
        "address": "52:54:00:12:34:56",
        "addr_info": [{"family": "inet", "local": "10.0.2.77", "prefixlen": 24, "scope": "global"}],
    }
]
ROUTES = [{"dst": "192.0.2.0/24", "gateway": "10.0.2.2", "dev": "ens3", "protocol": "static"}]
FAKE_IP = f"""#!/bin/sh
case $* in
*addr) echo '{json.dumps(ADDRESSES)}' ;;
-4*) echo '{json.dumps(ROUTES)}' ;;
*) echo '[]' ;;
esac
"""
PREFS = {
    "ControlURL": "http://10.0.2.2:8080",
    "ShieldsUp": True,
    "AdvertiseRoutes": ["10.9.0.0/16"],
    "RouteAll": True,
    "RunSSH": True,
    "Unknown": 12345678901234567,
}
FAKE_KEXEC = '#!/bin/sh\n[ "$1" != --load ] || cp "${0%/*}/initrd" "${0%/*}/loaded"\n'


@dataclass(frozen=True)
class Booted:
    """An image, and what it boots on.

    Attributes:
        kexec: its folder.
        kernel_params: its kernel's command line.
        hardware: the machine.

    """

    kexec: Path
    kernel_params: str
    hardware: Hardware = BIOS


@dataclass
class Guest:
    """The installer, reached over QEMU's port forward."""

    folder: Path
    port: int

    def ssh(self, command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        # fmt: off
        options = [
            "-F", "none", "-p", str(self.port), "-i", str(self.folder / "key"),
            "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=3",
        ]
        # fmt: on
        return subprocess.run(
            ["ssh", *options, "root@127.0.0.1", command], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def said(self, command: str) -> str:
        done = self.ssh(command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_until(self, what: str, ready: Callable[[], bool], deadline_s: float) -> None:
        ends = time.monotonic() + deadline_s
        while not ready():
            log = (self.folder / "serial.log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < ends, f"{what}: not within {deadline_s} s; the console ends with:\n{log}"
            time.sleep(0.5)

    def answers(self, command: str = "true") -> str:
        """Return a command's output; empty if the guest cannot be reached."""
        try:
            return self.ssh(command, timeout_s=8).stdout.strip()
        except subprocess.TimeoutExpired:
            return ""


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _new_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def _hand_over(image: Booted, folder: Path, port: int) -> Path:
    """Run the image's own kexec/run on an origin in a folder; return the initrd as the kernel would get it."""
    origin = folder / "origin"
    host_key = _new_key(origin / "etc/ssh/ssh_host_ed25519_key")
    _write(folder / "known_hosts", f"[127.0.0.1]:{port} {host_key}")
    _write(origin / "root/.ssh/authorized_keys", _new_key(folder / "key"))
    _write(origin / "etc/machine-id", MACHINE_ID + "\n")
    _write(origin / "etc/resolv.conf", "nameserver 10.0.2.3\n")
    _write(origin / "proc/sys/kernel/random/boot_id", "1111-2222\n")
    _write(origin / "var/lib/tailscale/tailscaled.state", json.dumps({"profile-1": _value(PREFS)}))
    kexec = folder / "kexec"
    shutil.copytree(image.kexec, kexec)
    _write(kexec / "ip", FAKE_IP, 0o755)
    _write(kexec / "kexec", FAKE_KEXEC, 0o755)
    flags = ["--run-id", "run-1", "--dead-man-s", str(DEAD_MAN_S), "--hostname", "cottage"]
    run = ["sh", str(kexec / "run"), *flags]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOLDFAST_ROOT": str(origin)}
    subprocess.run(run, check=True, env=environment, timeout=60, capture_output=True)
    return kexec / "loaded"


def _value(prefs: object) -> str:
    return base64.b64encode(json.dumps(prefs).encode()).decode()


@contextmanager
def booted(image: Booted, folder: Path, forge: Callable[[Path], None] | None = None) -> Iterator[Guest]:
    """Boot the installer; `forge` may change its initrd first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    make_disk(folder / "disk.qcow2", 1 << 30)
    initrd = _hand_over(image, folder, port)
    if forge:
        forge(initrd)
    machine = VirtualMachine(
        disks=(Disk(folder / "disk.qcow2", "COTTAGE0001"),),
        serial_log=folder / "serial.log",
        qmp=folder / "qmp",
        ssh_port=port,
        kernel=Kernel(image.kexec / "bzImage", initrd, image.kernel_params),
        hardware=image.hardware,
        rtc=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - BEHIND_S)),
    )
    (folder / "serial.log").touch()
    process = subprocess.Popen(machine.command(), cwd=folder)
    guest = Guest(folder, port)
    try:
        guest.wait_until("ssh", lambda: guest.answers("echo up") == "up", image.hardware.architecture.starts_within_s)
        yield guest
    finally:
        process.terminate()
        process.wait(timeout=20)
