"""The pair that every lab starts from: an origin's disk that has joined a tailnet, and that tailnet's state.

The two belong together: the control server knows only this machine's keys. They are made once and then copied.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from holdfast.base.waiting import NotYet, wait_for
from lab import origin, qemu, toolchain
from lab.cache import Part
from lab.tailnet import CONTROL_PORT
from lab.world import World, until_ssh

BOOT_S = 180
JOIN_S = 90


def joined_pair() -> Path:
    """Return a folder with `origin.qcow2`, the state of its tailnet, its `address` there, and the lab's keys."""
    disk = origin.disk()
    parts: list[Part] = [
        disk.name,
        toolchain.headscale().parent.name,
        toolchain.tailscale_tools().name,
        Path(__file__).with_name("tailnet.py"),
        Path(__file__),
    ]
    return toolchain.built("joined", parts, lambda into: _join(disk, into), about="60 s")


def _join(disk: Path, into: Path) -> None:
    """Boot the origin once, let it and the operator join a new tailnet, and power it off."""
    for name in ("operator_key", "operator_key.pub", "host_key.pub"):
        shutil.copy(disk / name, into / name)
    (into / "known_hosts").write_text("cottage " + (disk / "host_key.pub").read_text())
    qemu.make_overlay(disk / "origin.img", into / "origin.qcow2", "raw")
    sockets = Path("/run") / f"holdfast-lab-{hashlib.sha256(str(into).encode()).hexdigest()[:8]}"
    world = World(into, sockets, owned=True)
    try:
        world.open()
        world.start_machine((qemu.Disk(into / "origin.qcow2", "COTTAGE0001"),))
        world.start_tailnet()
        key = into / "auth_key"
        key.write_text(world.tailnet.new_auth_key())
        server = f"--login-server=http://127.0.0.1:{CONTROL_PORT}"
        options = [server, f"--auth-key=file:{key}", "--hostname=operator", "--timeout=60s"]
        up = world.tailnet.operator_command("up", *options)
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL, timeout=120)
        ssh = world.ssh_command(into / "operator_key", into / "known_hosts")[:-1]
        until_ssh("the origin's first boot", [*ssh, "true"], BOOT_S)
        subprocess.run([*ssh, "umask 077; cat >/run/auth-key"], input=key.read_bytes(), check=True)
        server = f"--login-server=http://{qemu.HOST_ADDRESS}:{CONTROL_PORT}"
        # Without --hostname, so that its name there follows its host name, as on most machines.
        join = f"tailscale up {server} --auth-key=file:/run/auth-key --timeout={JOIN_S}s"
        subprocess.run([*ssh, join], check=True)
        (into / "address").write_text(_until_joined(ssh))
        subprocess.run([*ssh, "systemctl poweroff"], check=False)
        world.until_ended("machine", 60)
    finally:
        world.close()
    for log in (*into.glob("*.log"), into / "auth_key"):
        log.unlink(missing_ok=True)


def _until_joined(ssh: list[str]) -> str:
    """Wait until the machine has its address on the tailnet, and return it."""

    def probe() -> str:
        said = subprocess.run([*ssh, "tailscale status --json"], check=True, capture_output=True, text=True).stdout
        status = json.loads(said)
        if status["BackendState"] != "Running" or not status["Self"]["TailscaleIPs"]:
            raise NotYet(status["BackendState"])
        return str(status["Self"]["TailscaleIPs"][0])

    return wait_for("the origin to join the tailnet", probe, deadline_s=JOIN_S, pause_s=0.5)
