"""The processes of a lab: the supervisor with its network, the tailnet's programs, and the machine's QEMU."""

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

from holdfast.base.errors import Unreachable
from holdfast.base.waiting import NotYet, wait_for
from lab import acceleration, qemu, supervisor
from lab.tailnet import CONTROL_PORT, QUIET, Tailnet

PROJECT: Final = Path(__file__).parent.parent
SSH_PORT: Final = 2222
"""The port on the lab's own loopback that leads to the machine's SSH server."""


@dataclass
class World:
    """The processes of a lab, and the folder that they work in.

    Attributes:
        run: the folder of disks, logs and the tailnet's state.
        sockets: the folder of the unix sockets; its path is short, because a socket's path has a limit.
        owned: whether everything ends when this process ends.

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
        # Written now, before the supervisor writes it: `down` must find it wherever we are interrupted.
        process = {"pid": self._owner.pid, "started": supervisor.start_time(self._owner.pid)}
        (self.run / "supervisor.json").write_text(json.dumps({"supervisor": process}))
        _until("the lab's supervisor", lambda: supervisor.ask(self.control, {"do": "list"}), 20)

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
        _until("headscale", lambda: supervisor.ask(self.control, {"do": "reach", "port": CONTROL_PORT}), 30)
        self.start("relay", self.tailnet.relay_command())
        self.start_operator()

    def start_control(self) -> None:
        """Start the control server."""
        self.start("headscale", self.tailnet.headscale_command("serve"))

    def start_operator(self) -> None:
        """Start the operator's tailscaled."""
        self.start("operator", self.tailnet.operator_daemon_command(), QUIET)

    @property
    def variables(self) -> Path:
        """The boot entries of the machine's UEFI firmware (`qemu.make_variables`)."""
        return self.run / "variables.qcow2"

    def start_machine(
        self,
        disks: tuple[qemu.Disk, ...],
        *,
        memory_mib: int = qemu.MEMORY_MIB,
        hardware: qemu.Hardware = qemu.BIOS,
        rtc: str = "",
    ) -> None:
        """Power the machine on, and wait until QEMU takes orders."""
        machine = qemu.VirtualMachine(
            disks=disks,
            serial_log=self.run / "serial.log",
            qmp=self.qmp,
            ssh_port=SSH_PORT,
            memory_mib=memory_mib,
            rtc=rtc,
            accelerator=acceleration.accelerator(hardware.architecture),
            cores=int(os.environ.get("HOLDFAST_LAB_CORES", "2")),
            hardware=hardware,
            variables=self.variables if hardware.uefi else None,
        )
        self.start("machine", machine.command())
        _until("QEMU to take orders", lambda: qemu.ask(self.qmp, "query-status"), 30)

    def inside(self) -> list[str]:
        """Return the words that start a command inside the lab's network."""
        pid = json.loads((self.run / "supervisor.json").read_text())["supervisor"]["pid"]
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def ssh_command(
        self, key: Path, known_hosts: Path, *argv: str, terminal: bool = False, connect_s: int = 5
    ) -> list[str]:
        """Return the argv of an SSH command over the machine's local port, from inside the lab's network.

        With `terminal` the command has one there, for a program that asks somebody. `connect_s`: how long the machine
        may take to greet.
        """
        # fmt: off
        return [
            *self.inside(), "ssh", "-F", "/dev/null", "-i", str(key), "-p", str(SSH_PORT),
            "-o", f"UserKnownHostsFile={known_hosts}", "-o", "HostKeyAlias=cottage", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={connect_s}", *(["-tt"] if terminal else []),
            "root@127.0.0.1", shlex.join(argv),
        ]
        # fmt: on

    def close(self) -> None:
        """End everything, also what an earlier process left running."""
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

    def until_ended(self, name: str, deadline_s: float) -> None:
        """Wait until a process of the lab has ended by itself."""

        def probe() -> None:
            if supervisor.ask(self.control, {"do": "list"})[name] is None:
                raise NotYet("it still runs")

        wait_for(f"{name} to end", probe, deadline_s=deadline_s, pause_s=0.3)


def _until(what: str, ask: Callable[[], object], deadline_s: float) -> None:
    """Wait until somebody answers."""

    def probe() -> None:
        try:
            ask()
        except (OSError, RuntimeError) as error:
            raise NotYet(str(error)) from error

    wait_for(what, probe, deadline_s=deadline_s, pause_s=0.2)


def until_ssh(what: str, command: list[str], deadline_s: float) -> None:
    """Wait until an SSH command succeeds.

    Raises:
        NeverCame: it did not within the deadline; says what was seen last.

    """

    def probe() -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unreachable("ssh did not end within 15 s") from error
        if done.returncode:
            raise NotYet(done.stderr.strip() or f"ssh ended with {done.returncode}")

    wait_for(what, probe, deadline_s=deadline_s, pause_s=0.5)
