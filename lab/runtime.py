"""A lab: a tailnet with an operator's node and the machine `cottage`, started from cached disks, and taken down."""

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from holdfast.base.errors import NeverCame
from lab import qemu, supervisor, toolchain, uefi
from lab.joined import joined_pair
from lab.world import PROJECT, World, until_ssh

DATA_BYTES: Final = 64 << 20
# What stays after `down`: logs and reports are read afterwards.
STAYS: Final = frozenset(
    {"faults.json", "faults.md", "matrix.json", "matrix.md", "matrix-faults.json", "report.json", "state"}
)


class Lab:
    """A lab of this checkout: in `lab/run`, or in the folder beside it that `HOLDFAST_LAB` names, so that two can run.

    Args:
        owned: whether everything ends when this process ends; `just lab up` leaves it running.

    """

    def __init__(self, *, owned: bool = True) -> None:
        self.run_dir = PROJECT / "lab" / os.environ.get("HOLDFAST_LAB", "run")
        # The name comes from the checkout's path, so two checkouts never share a lab.
        name = hashlib.sha256(str(self.run_dir).encode()).hexdigest()[:8]
        self.world = World(self.run_dir, Path("/run") / f"holdfast-lab-{name}", owned)
        self._memory_mib = qemu.MEMORY_MIB
        self._hardware = qemu.BIOS
        self._origin: Path | None = None

    @property
    def key(self) -> Path:
        """The private key that the machine accepts for root."""
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
        """The operator's `tailscale` command; works from any network namespace."""
        return self.world.tailnet.operator_command()

    @property
    def ssh_config(self) -> Path:
        """An SSH configuration that leads to `cottage` over the tailnet."""
        return self.run_dir / "ssh_config"

    def up(self) -> None:
        """Bring up tailnet and machine, and wait until SSH over the tailnet answers.

        Raises:
            PermissionError: not root.
            NeverCame: something did not start in time; says what was seen last.

        """
        if os.geteuid() != 0:
            raise PermissionError("the lab makes a network namespace: run it as root")
        self.down()
        pair = joined_pair()
        toolchain.announce("starting the tailnet and the machine (about 40 s, at most 11 min) …")
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

    def start_over(self, *, rtc: str = "") -> None:
        """Put the machine back to its origin, as the same node on the same tailnet. `rtc`: see `power_on`.

        Without KVM, about one boot in sixty never gets its network; so there is a second try.
        """
        try:
            self._boot_origin(rtc)
        except NeverCame as error:
            console = (self.run_dir / "serial.log").read_text(errors="replace")[-1000:]
            toolchain.announce(f"{error.message} Its console ends with {console!r}. Trying once more …")
            self._boot_origin(rtc)

    def _boot_origin(self, rtc: str) -> None:
        self.power_off()
        self._make_disks()
        self.power_on(rtc=rtc)
        self.wait_for_ssh()

    @contextmanager
    def other_machine(self, hardware: qemu.Hardware, origin: Path | None = None) -> Iterator[None]:
        """Let the machine be of another kind while the body runs: in its origin, the same node, with fresh disks.

        Afterwards it is of the kind of before, in its origin, with fresh disks.

        Args:
            hardware: what kind it is.
            origin: a qcow2 with another origin, which is the same node.

        """
        before, self._hardware, self._origin = (self._hardware, self._origin), hardware, origin
        try:
            self.start_over()
            yield
        finally:
            self._hardware, self._origin = before
            self.start_over()

    def wait_for_ssh(self) -> None:
        """Wait until the machine answers over the tailnet."""
        command = ["ssh", "-F", str(self.ssh_config), "cottage", "true"]
        until_ssh("cottage to answer over the tailnet", command, self._hardware.architecture.starts_within_s)

    def down(self) -> None:
        """End everything and remove what it needed; logs and reports stay."""
        self.run_dir.mkdir(exist_ok=True, mode=0o700)
        self.world.close()
        # The next lab's machine is another node: pins and secret states of this one would only mislead or leak.
        shutil.rmtree(self.run_dir / "state" / "vault", ignore_errors=True)
        (self.run_dir / "state" / "known_hosts").unlink(missing_ok=True)
        for path in self.run_dir.iterdir():
            if path.name in STAYS or path.suffix == ".log":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def power_on(self, *, memory_mib: int = qemu.MEMORY_MIB, rtc: str = "") -> None:
        """Start the machine from its own disk. `rtc`: what its hardware clock says, if not the time."""
        self._memory_mib = memory_mib
        self.world.start_machine(
            (
                qemu.Disk(self.run_dir / "disk.qcow2", "COTTAGE0001"),
                qemu.Disk(self.run_dir / "data.qcow2", "DATA0001"),
            ),
            memory_mib=memory_mib,
            hardware=self._hardware,
            rtc=rtc,
        )

    def plug_in_disk(self, serial: str) -> None:
        """Plug an empty disk into the running machine, until the next `power_off`."""
        path = self.run_dir / f"{serial}.qcow2"
        path.unlink(missing_ok=True)
        qemu.make_disk(path, DATA_BYTES)
        qemu.plug_in(self.world.qmp, qemu.Disk(path, serial))

    def power_off(self) -> None:
        """Cut the machine's power."""
        self.world.stop("machine")

    def power_cycle(self) -> None:
        """Cut the machine's power and switch it on again: what it had not written is lost."""
        qemu.ask(self.world.qmp, "system_reset")

    def cut_link(self) -> None:
        """Pull the machine's network cable."""
        qemu.ask(self.world.qmp, "set_link", name="net", up=False)

    def mend_link(self) -> None:
        """Plug the machine's network cable in again."""
        qemu.ask(self.world.qmp, "set_link", name="net", up=True)

    def ensure_up(self) -> None:
        """Start the machine and the control server if they do not run, and plug in the machine's network cable."""
        running = self.status()
        if running["headscale"] is not None:
            self.world.start_control()
        if running["machine"] is None:
            self.mend_link()
        else:
            self.power_on()

    def require_machine(self) -> None:
        """Raise RuntimeError if QEMU has ended by itself: no system on the machine can do that."""
        if self.status()["machine"] is not None:
            said = (self.run_dir / "machine.log").read_text(errors="replace").splitlines()
            raise RuntimeError(f"QEMU has ended: {said[-1] if said else 'it printed nothing'}")

    def remember(self, moment: str) -> None:
        """Save the machine as it is now, memory and disks, under a name."""
        qemu.monitor(self.world.qmp, f"savevm {moment}")

    def return_to(self, moment: str) -> None:
        """Put the machine back to a saved moment; its tailscaled needs some 16 s to connect again."""
        if self._memory_mib != qemu.MEMORY_MIB:
            self.power_off()
            self.power_on()
        qemu.monitor(self.world.qmp, f"loadvm {moment}")

    def start_operator(self) -> None:
        """Start the operator's tailscaled again."""
        self.world.start_operator()
        self.wait_for_ssh()

    def stop_operator(self) -> None:
        """Stop the operator's tailscaled, which is its only way to the machine."""
        self.world.stop("operator")

    def ssh_local(self, argv: list[str], stdin: str = "") -> str:
        """Run a command on the machine over its local port, which no flow can reach; return its output."""
        # A machine that shares two processors with others may take long to greet.
        command = self.world.ssh_command(self.key, self.run_dir / "known_hosts", *argv, connect_s=60)
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, input=stdin)
        return done.stdout

    def status(self) -> dict[str, object]:
        """Return the exit status of each of the lab's processes, None for one that runs; empty if the lab is down."""
        try:
            return supervisor.ask(self.world.control, {"do": "list"})
        except OSError:
            return {}

    def _make_disks(self) -> None:
        """Make the machine's disks again: the origin's, and one that no install may touch."""
        disk, data = self.run_dir / "disk.qcow2", self.run_dir / "data.qcow2"
        for file in (disk, data, self.world.variables):
            file.unlink(missing_ok=True)
        qemu.make_overlay(self._origin or joined_pair() / "origin.qcow2", disk, "qcow2")
        qemu.make_disk(data, DATA_BYTES)
        if self._hardware.uefi:
            uefi.make_bootable(disk, self._hardware.architecture)
            qemu.make_variables(self.world.variables, self._hardware.architecture)

    def _write_ssh_config(self) -> None:
        proxy = shlex.join([*self.tailscale, "nc", "%h", "%p"])
        self.ssh_config.write_text(
            f"Host cottage\n  HostName {self.address}\n  User root\n  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.run_dir / 'known_hosts'}\n  HostKeyAlias cottage\n"
            f"  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 10\n  ProxyCommand {proxy}\n"
        )
