"""One lab: a tailnet with an operator's node and the machine `cottage`, brought up from cached disks and taken down."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.base.errors import NeverCame, Unreachable
from holdfast.base.waiting import NotYet, wait_for
from lab import origin, qemu, supervisor, toolchain
from lab.tailnet import CONTROL_PORT, QUIET, Tailnet

PROJECT: Final = Path(__file__).parent.parent
SSH_PORT: Final = 2222
DATA_BYTES: Final = 64 << 20
# What stays after `down`: logs and reports are read afterwards.
STAYS: Final = frozenset({"faults.json", "faults.md", "report.json", "state"})


@dataclass
class World:
    """The processes of a lab around one folder; also used to make the cached pair of disk and tailnet.

    Attributes:
        run: folder of disks, logs and the tailnet's state.
        sockets: short folder for unix sockets.
        owned: whether everything ends when this process does.

    """

    run: Path
    sockets: Path
    owned: bool
    _owner: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.sockets / "control.sock"

    @property
    def tailnet(self) -> Tailnet:
        """The lab's tailnet."""
        return Tailnet(state=self.run / "tailnet", sockets=self.sockets)

    @property
    def qmp(self) -> Path:
        """The control socket of the machine's QEMU."""
        return self.sockets / "qmp.sock"

    def open(self) -> None:
        """Start the supervisor, which makes the network namespace."""
        self.sockets.mkdir(mode=0o700, parents=True)
        command = ["unshare", "--net", sys.executable, "-m", "lab.supervisor", str(self.run), str(self.sockets)]
        with (self.run / "supervisor.log").open("ab") as log:
            self._owner = subprocess.Popen(
                [*command, *(["--owned"] if self.owned else [])],
                cwd=PROJECT,
                stdin=subprocess.PIPE if self.owned else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Written at once, and later by the supervisor: `down` must find it wherever we are interrupted.
        process = {"pid": self._owner.pid, "started": supervisor.start_time(self._owner.pid)}
        (self.run / "supervisor.json").write_text(json.dumps({"supervisor": process}))
        self._until("the lab's supervisor", lambda: supervisor.ask(self.control, {"do": "list"}), 20)

    def start(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> None:
        """Start a process in the lab's network."""
        supervisor.ask(self.control, {"do": "start", "name": name, "argv": argv, "env": env or {}})

    def stop(self, name: str) -> None:
        """End a process of the lab."""
        supervisor.ask(self.control, {"do": "stop", "name": name})

    def start_tailnet(self) -> None:
        """Start control server, relay and the operator's tailscaled."""
        self.tailnet.configure()
        self.start_control()
        self._until("headscale", lambda: supervisor.ask(self.control, {"do": "reach", "port": CONTROL_PORT}), 30)
        self.start("relay", self.tailnet.relay_command())
        self.start_operator()

    def start_control(self) -> None:
        """Start the control server."""
        self.start("headscale", self.tailnet.headscale_command("serve"))

    def start_operator(self) -> None:
        """Start the operator's tailscaled."""
        self.start("operator", self.tailnet.operator_daemon_command(), QUIET)

    def start_machine(self, disks: tuple[qemu.Disk, ...], *, memory_mib: int = qemu.MEMORY_MIB) -> None:
        """Power the machine on, and wait until QEMU takes orders."""
        machine = qemu.Machine(
            disks=disks,
            serial_log=self.run / "serial.log",
            qmp=self.qmp,
            ssh_port=SSH_PORT,
            memory_mib=memory_mib,
            cores=int(os.environ.get("HOLDFAST_LAB_CORES", "2")),
        )
        self.start("machine", machine.command())
        self._until("QEMU to take orders", lambda: qemu.ask(self.qmp, "query-status"), 30)

    def inside(self) -> list[str]:
        """Return the words that start a command inside the lab's network."""
        pid = json.loads((self.run / "supervisor.json").read_text())["supervisor"]["pid"]
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def ssh_command(self, key: Path, known_hosts: Path, *argv: str) -> list[str]:
        """Return the argv of an SSH over the machine's local port, from inside the lab's network."""
        # fmt: off
        return [
            *self.inside(), "ssh", "-F", "/dev/null", "-i", str(key), "-p", str(SSH_PORT),
            "-o", f"UserKnownHostsFile={known_hosts}", "-o", "HostKeyAlias=cottage", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5", "root@127.0.0.1", shlex.join(argv),
        ]
        # fmt: on

    def close(self) -> None:
        """End everything; also what an earlier process of ours left behind."""
        record = self.run / "supervisor.json"
        everyone = json.loads(record.read_text()) if record.is_file() else {}
        for name, process in everyone.items():
            if name == "supervisor" and supervisor.start_time(process["pid"]) == process["started"]:
                os.kill(process["pid"], signal.SIGTERM)
                ends = time.monotonic() + 60
                while supervisor.start_time(process["pid"]) == process["started"] and time.monotonic() < ends:
                    if self._owner:
                        self._owner.poll()
                    time.sleep(0.1)
        for process in everyone.values():
            if supervisor.start_time(process["pid"]) == process["started"]:
                os.kill(process["pid"], signal.SIGKILL)
        if self._owner:
            if self._owner.stdin:
                self._owner.stdin.close()
            self._owner.wait()
            self._owner = None
        record.unlink(missing_ok=True)
        if self.sockets.is_dir():
            shutil.rmtree(self.sockets)

    def _until(self, what: str, ask: Callable[[], object], deadline_s: float) -> None:
        def probe() -> None:
            try:
                ask()
            except (OSError, RuntimeError) as error:
                raise NotYet(str(error)) from error

        wait_for(what, probe, deadline_s=deadline_s, pause_s=0.2)


def joined_pair() -> Path:
    """Return a folder with a machine's disk that has joined a tailnet, that tailnet's state, and the lab's keys.

    Disk and database belong together: the control server knows just this machine's keys.
    """
    disk = origin.disk()
    parts: list[str | Path] = [
        disk.name,
        toolchain.headscale().parent.name,
        toolchain.tailscale_tools().name,
        Path(__file__).with_name("tailnet.py"),
        "1",
    ]
    return toolchain.built("joined", parts, lambda into: _join(disk, into), about="60 s")


def _join(disk: Path, into: Path) -> None:
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
        _operator(
            world.tailnet,
            "up",
            f"--login-server=http://127.0.0.1:{CONTROL_PORT}",
            f"--auth-key=file:{key}",
            "--hostname=operator",
            "--timeout=60s",
        )
        ssh = world.ssh_command(into / "operator_key", into / "known_hosts")[:-1]
        _until_ssh("the origin's first boot", [*ssh, "true"], 180)
        subprocess.run([*ssh, "umask 077; cat >/run/auth-key"], input=key.read_bytes(), check=True)
        server = f"http://{qemu.HOST_ADDRESS}:{CONTROL_PORT}"
        joined = f"tailscale up --login-server={server} --auth-key=file:/run/auth-key --hostname=cottage --timeout=90s"
        subprocess.run([*ssh, joined], check=True)
        (into / "address").write_text(_until_joined(ssh))
        subprocess.run([*ssh, "systemctl poweroff"], check=False)
        _until_ended(world, "machine", 60)
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

    return wait_for("the origin to join the tailnet", probe, deadline_s=90, pause_s=0.5)


def _operator(tailnet: Tailnet, *arguments: str) -> None:
    subprocess.run(tailnet.operator_command(*arguments), check=True, stdout=subprocess.DEVNULL, timeout=120)


def _until_ssh(what: str, command: list[str], deadline_s: float) -> None:
    def probe() -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unreachable("ssh did not end within 15 s") from error
        if done.returncode:
            raise NotYet(done.stderr.strip() or f"ssh ended with {done.returncode}")

    wait_for(what, probe, deadline_s=deadline_s, pause_s=0.5)


def _until_ended(world: World, name: str, deadline_s: float) -> None:
    def probe() -> None:
        if supervisor.ask(world.control, {"do": "list"})[name] is None:
            raise NotYet("it still runs")

    wait_for(f"{name} to end", probe, deadline_s=deadline_s, pause_s=0.3)


class Lab:
    """A lab of this checkout: in `lab/run`, or the folder beside it that `HOLDFAST_LAB` names, so that two can run.

    Args:
        owned: whether everything ends when this process does; `lab up` leaves it running.

    """

    def __init__(self, *, owned: bool = True) -> None:
        self.run_dir = PROJECT / "lab" / os.environ.get("HOLDFAST_LAB", "run")
        # The checkout's path makes it another lab than any other checkout's.
        name = hashlib.sha256(str(self.run_dir).encode()).hexdigest()[:8]
        self.world = World(self.run_dir, Path("/run") / f"holdfast-lab-{name}", owned)
        self._memory_mib = qemu.MEMORY_MIB

    @property
    def key(self) -> Path:
        """The private key that root lets in."""
        return self.run_dir / "operator_key"

    @property
    def host_key(self) -> str:
        """The machine's public SSH host key."""
        return (self.run_dir / "host_key.pub").read_text().strip()

    @property
    def address(self) -> str:
        """The machine's address on the tailnet."""
        return (self.run_dir / "address").read_text().strip()

    @property
    def tailscale(self) -> list[str]:
        """The operator's Tailscale command, for any network namespace."""
        return self.world.tailnet.operator_command()

    @property
    def ssh_config(self) -> Path:
        """An SSH configuration that leads to `cottage` over the tailnet."""
        return self.run_dir / "ssh_config"

    def up(self) -> None:
        """Bring up tailnet and machine, and wait until SSH over the tailnet answers.

        Raises:
            PermissionError: not root.
            DeadlinePassed: something did not come up; says what was seen last.

        """
        if os.geteuid() != 0:
            raise PermissionError("the lab makes a network namespace: run it as root")
        self.down()
        pair = joined_pair()
        toolchain.announce("starting the tailnet and the machine (about 40 s) …")
        for path in pair.iterdir():
            if path.is_dir():
                shutil.copytree(path, self.run_dir / path.name)
            elif path.name != "origin.qcow2":
                shutil.copy2(path, self.run_dir / path.name)
        self._make_disks()
        self._write_ssh_config()
        self.world.open()
        self.power_on()
        self.world.start_tailnet()
        self.wait_for_ssh()

    def start_over(self) -> None:
        """Put the machine back to its origin, as the same node on the same tailnet.

        One boot in many did not get as far as its network (seen once in some sixty, without KVM), so it gets a second.
        """
        try:
            self._boot_origin()
        except NeverCame as error:
            console = (self.run_dir / "serial.log").read_text(errors="replace")[-1000:]
            toolchain.announce(f"{error.message} Its console ends with {console!r}; once more …")
            self._boot_origin()

    def _boot_origin(self) -> None:
        self.power_off()
        self._make_disks()
        self.power_on()
        self.wait_for_ssh()

    def wait_for_ssh(self) -> None:
        """Wait until the machine answers over the tailnet."""
        _until_ssh("cottage to answer over the tailnet", ["ssh", "-F", str(self.ssh_config), "cottage", "true"], 180)

    def down(self) -> None:
        """End everything and remove what it needed; logs and reports stay."""
        self.run_dir.mkdir(exist_ok=True, mode=0o700)
        self.world.close()
        # Another lab is another node: its pins and identities are of no use, and nobody's to find.
        shutil.rmtree(self.run_dir / "state" / "vault", ignore_errors=True)
        (self.run_dir / "state" / "known_hosts").unlink(missing_ok=True)
        for path in self.run_dir.iterdir():
            if path.name in STAYS or path.suffix == ".log":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def power_on(self, *, memory_mib: int = qemu.MEMORY_MIB) -> None:
        """Start the machine from its own disk."""
        self._memory_mib = memory_mib
        self.world.start_machine(
            (
                qemu.Disk(self.run_dir / "disk.qcow2", "COTTAGE0001"),
                qemu.Disk(self.run_dir / "data.qcow2", "DATA0001"),
            ),
            memory_mib=memory_mib,
        )

    def plug_in_disk(self, serial: str) -> None:
        """Plug an empty disk into the running machine; it is gone with the next power_off."""
        path = self.run_dir / f"{serial}.qcow2"
        path.unlink(missing_ok=True)
        qemu.make_disk(path, DATA_BYTES)
        qemu.plug_in(self.world.qmp, qemu.Disk(path, serial))

    def power_off(self) -> None:
        """Cut the machine's power."""
        self.world.stop("machine")

    def power_cycle(self) -> None:
        """Cut the machine's power and give it back: what it had not written is lost."""
        qemu.ask(self.world.qmp, "system_reset")

    def cut_link(self) -> None:
        """Pull the machine's network cable."""
        qemu.ask(self.world.qmp, "set_link", name="net", up=False)

    def mend_link(self) -> None:
        """Plug the machine's network cable in again."""
        qemu.ask(self.world.qmp, "set_link", name="net", up=True)

    def ensure_up(self) -> None:
        """Start what does not run of machine and control server, and plug the machine in."""
        running = self.status()
        if running["headscale"] is not None:
            self.world.start_control()
        if running["machine"] is None:
            self.mend_link()
        else:
            self.power_on()

    def require_machine(self) -> None:
        """Raise RuntimeError, with its last words, if QEMU has ended by itself: no system of the machine's did that."""
        if self.status()["machine"] is not None:
            said = (self.run_dir / "machine.log").read_text(errors="replace").splitlines()
            raise RuntimeError(f"QEMU has ended: {said[-1] if said else 'it said nothing'}")

    def remember(self, moment: str) -> None:
        """Keep the machine as it is now, memory and disks, under a name."""
        qemu.monitor(self.world.qmp, f"savevm {moment}")

    def return_to(self, moment: str) -> None:
        """Put the machine back to a remembered moment; its tailscaled needs some 16 s to find the way back."""
        if self._memory_mib != qemu.MEMORY_MIB:
            self.power_off()
            self.power_on()
        qemu.monitor(self.world.qmp, f"loadvm {moment}")

    def start_operator(self) -> None:
        """Start the operator's tailscaled again."""
        self.world.start_operator()
        self.wait_for_ssh()

    def stop_operator(self) -> None:
        """Stop the operator's tailscaled: its way to the machine is gone."""
        self.world.stop("operator")

    def ssh_local(self, argv: list[str], stdin: str = "") -> str:
        """Run a command on the machine over its local port, which the flow cannot reach; return its output."""
        command = self.world.ssh_command(self.key, self.run_dir / "known_hosts", *argv)
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, input=stdin)
        return done.stdout

    def status(self) -> dict[str, object]:
        """Return what runs: process names, and None for those that run, else their exit status."""
        try:
            return supervisor.ask(self.world.control, {"do": "list"})
        except OSError:
            return {}

    def _make_disks(self) -> None:
        """Lay out the machine's disks anew: the origin's, and one that no install may touch."""
        for name in ("disk.qcow2", "data.qcow2"):
            (self.run_dir / name).unlink(missing_ok=True)
        qemu.make_overlay(joined_pair() / "origin.qcow2", self.run_dir / "disk.qcow2", "qcow2")
        qemu.make_disk(self.run_dir / "data.qcow2", DATA_BYTES)

    def _write_ssh_config(self) -> None:
        proxy = shlex.join([*self.tailscale, "nc", "%h", "%p"])
        self.ssh_config.write_text(
            f"Host cottage\n  HostName {self.address}\n  User root\n  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.run_dir / 'known_hosts'}\n  HostKeyAlias cottage\n"
            f"  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 10\n  ProxyCommand {proxy}\n"
        )
