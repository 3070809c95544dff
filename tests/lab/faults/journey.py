"""A journey: one install of the lab's machine, with faults in its phases, until the install is finished."""

import contextlib
import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.flow_runs import ENDED, phases_before, phases_done, report_of, retry, start
from lab.operator import NOWHERE, Operator
from lab.qemu import MEMORY_MIB
from lab.runtime import Lab
from lab.world import SSH_PORT
from tests.lab import leaks
from tests.lab.faults.table import Row
from tests.lab.table import Findings

ORIGIN: Final = "origin"
INSTALLER: Final = "installer"
FINAL: Final = "final"
AWAY: Final = "away"
MOST_RETRIES: Final = 3

# Says which system runs, by a file that only that system has.
_WHERE: Final = """
if [ -e /run/holdfast/installer.json ]; then echo installer
elif [ -e /run/booted-system ]; then echo final
else echo origin; fi
"""


@dataclass
class Seen:
    """Which system ran after a fault, and what let the install go on; the body of `Journey.fault` fills it in."""

    where: str = "?"
    recovery: str = "?"


class Journey:
    """Drives one install.

    Args:
        lab: the lab; its machine has been saved as `origin`.
        operator: its Prefect server and deployments.
        findings: takes a row for each fault.

    """

    def __init__(self, lab: Lab, operator: Operator, findings: Findings[Row]) -> None:
        self.lab, self.operator, self._findings = lab, operator, findings
        self.run_id = ""
        self._node = self._seen_by_operator()
        self._found = (lab.run_dir / "hosts.toml").read_text()
        self._secrets: tuple[str, ...] = ()
        lines, self._brought = leaks.bring(lab)
        self._inventory = self._found + lines

    def begin(self, moment: str) -> None:
        """Put the machine back to a saved moment."""
        self.lab.return_to(moment)
        self.inventory("")
        self.lab.wait_for_ssh()
        self.data = self._data_digest()
        self._secrets = (*leaks.node_secrets(self.lab), *self._brought)
        leaks.mark_files(self.lab)

    def deadlines(self, **seconds: float) -> None:
        """Set other deadlines for the runs that start from now on."""
        self.inventory("\n[cottage.deadlines]\n" + "".join(f"{name} = {value}\n" for name, value in seconds.items()))

    def inventory(self, more: str, *, local: str = NOWHERE) -> None:
        """Write the inventory again, with more at its end and another address outside the tailnet."""
        (self.lab.run_dir / "hosts.toml").write_text(self._inventory.replace(NOWHERE, local) + more)

    def start(self, image: Path | None = None) -> None:
        """Start a fresh run, with this image if one is given, else with the inventory's."""
        self.run_id = start(self.operator, **({"image": str(image)} if image else {}))

    def end(self) -> None:
        """Leave everything as the next journey needs it, however this one ended."""
        (self.lab.run_dir / "hosts.toml").write_text(self._found)
        try:
            if self.run_id and self._state() not in ENDED:
                with contextlib.suppress(ProcessLookupError):
                    self.operator.signal_flow(self.run_id, signal.SIGKILL)
        finally:
            try:
                self.operator.ensure_up()
            finally:
                self.lab.ensure_up()

    def retry(self) -> None:
        """Press Retry."""
        retry(self.operator, self.run_id)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the flow while the body changes the machine, so that the flow cannot be faster."""
        with _and_back(
            lambda: self.operator.signal_flow(self.run_id, signal.SIGSTOP),
            lambda: self.operator.signal_flow(self.run_id, signal.SIGCONT),
        ):
            yield

    @contextmanager
    def planted(self, plant: str, mend: str) -> Iterator[None]:
        """Let a fault be on the machine while the body runs: a script plants it, and another takes it away again."""
        with _and_back(lambda: self.on_machine(plant), lambda: self.on_machine(mend)):
            yield

    def reach(self, phase: str, deadline_s: float = 900) -> None:
        """Wait until the run is in this phase."""
        before = set(phases_before(phase))
        self._until(
            f"the run to reach {phase}", lambda: self._state() == "RUNNING" and before <= self._done(), deadline_s
        )

    def past(self, phase: str, deadline_s: float = 900) -> None:
        """Wait until this phase is over."""
        self._until(f"the run to finish {phase}", lambda: phase in self._done(), deadline_s)

    def ended(self, *types: str, deadline_s: float = 900) -> str:
        """Wait until the run has ended in one of these states; check that it left no secrets; return its message."""
        self._until("the run to end", lambda: self._state() in ENDED, deadline_s)
        state = self.operator.api(f"/flow_runs/{self.run_id}")["state"]
        message = str(state["message"])
        if state["type"] not in types:
            raise AssertionError(f"the run ended {state['type']}, not {' or '.join(types)}: {message}")
        assert leaks.in_files(self.lab.run_dir, self._secrets) == []
        self.arguments_are_clean()
        return message

    def where(self, deadline_s: float = 600) -> str:
        """Return which system runs, asked over the local port that no run uses; `away` if none answers in time."""
        ends = time.monotonic() + deadline_s
        while time.monotonic() < ends:
            try:
                return self.lab.ssh_local(["sh", "-c", _WHERE]).strip()
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                time.sleep(1)
        return AWAY

    def until_where(self, stage: str, deadline_s: float = 600) -> str:
        """Wait until this system runs on the machine; return the system that runs at the end."""
        ends = time.monotonic() + deadline_s
        while (seen := self.where(ends - time.monotonic())) != stage and time.monotonic() < ends:
            time.sleep(1)
        return seen

    def go_on(self, phase: str, deadline_s: float = 900) -> str:
        """Wait until the phase is over, and press Retry whenever the run has failed. Return what was needed."""
        took: list[str] = []
        ends = time.monotonic() + deadline_s
        while phase not in self._done():
            self.lab.require_machine()
            if time.monotonic() > ends:
                raise AssertionError(f"{phase} was not over after {deadline_s:.0f} s and {took}")
            if self._state() in ("FAILED", "CRASHED"):
                if len(took) >= MOST_RETRIES:
                    raise AssertionError(f"{took} did not help: {self.ended('FAILED', 'CRASHED')}")
                took.append("Retry")
                self.retry()
            time.sleep(0.5)
        return ", ".join(took) or "by itself"

    def wait(self, seconds: float) -> None:
        """Let some time pass, as part of a fault."""
        time.sleep(seconds)

    @contextmanager
    def expired_key(self) -> Iterator[None]:
        """Let the machine's node key be expired while the body runs; then it is extended, as an administrator can."""
        with _and_back(self._expire_key, self._extend_key):
            yield

    @contextmanager
    def no_control_server(self) -> Iterator[None]:
        """Let the control server be away while the body runs."""
        with _and_back(lambda: self.lab.world.stop("headscale"), self.lab.world.start_control):
            yield

    @contextmanager
    def memory(self, mib: int) -> Iterator[None]:
        """Let the machine have less memory while the body runs; its power is cut for that before and after."""

        def on(memory_mib: int = MEMORY_MIB) -> None:
            self.lab.power_off()
            self.lab.power_on(memory_mib=memory_mib)
            self.lab.wait_for_ssh()

        with _and_back(lambda: on(mib), on):
            yield

    def _expire_key(self) -> None:
        self.lab.world.tailnet.headscale("nodes", "expire", "--identifier", self._control_id(), "--force")

    def _extend_key(self) -> None:
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
        self.lab.world.tailnet.headscale(
            "nodes", "expire", "--identifier", self._control_id(), "--expiry", later, "--force"
        )

    def _control_id(self) -> str:
        nodes = json.loads(self.lab.world.tailnet.headscale("nodes", "list", "--output", "json"))
        return str(next(node["id"] for node in nodes if self.lab.address in node["ip_addresses"]))

    def on_machine(self, script: str) -> str:
        """Run a script on the machine, over its local port; return its output."""
        return self.lab.ssh_local(["sh", "-c", script]).strip()

    def until_on_machine(self, what: str, script: str, deadline_s: float = 900) -> None:
        """Wait until a script on the machine succeeds."""

        def probe() -> bool:
            try:
                self.on_machine(script)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                return False
            return True

        self._until(what, probe, deadline_s)

    def until_kexec_run(self, deadline_s: float = 600) -> None:
        """Wait until the image is on the machine and its `kexec/run` works."""
        self.until_on_machine("kexec/run to work", "test -e /var/lib/holdfast/*/kexec/initrd.length", deadline_s)

    @contextmanager
    def fault(self, name: str, phase: str) -> Iterator[Seen]:
        """Add a row for the body, which causes the fault and waits until the phase is over."""
        began, seen, outcome = time.monotonic(), Seen(), "broke off"
        try:
            yield seen
            outcome = "recovered"
        except BaseException as error:
            outcome = f"FAILED: {error}"[:200]
            raise
        finally:
            self._findings.add(Row(name, phase, seen.where, seen.recovery, outcome, round(time.monotonic() - began, 1)))

    def kill_flow(self) -> None:
        """Kill the flow's process, and wait until its run is Crashed."""
        self.operator.signal_flow(self.run_id, signal.SIGKILL)
        self.ended("CRASHED")

    def thrown(self, name: str, phase: str, throw: Callable[[], None]) -> None:
        """Cause a fault that the run survives, or that a Retry mends, and wait until the phase is over."""
        with self.fault(name, phase) as seen:
            throw()
            seen.where = self.where()
            seen.recovery = self.go_on(phase)

    def cut(self, seconds: float) -> None:
        """Cut the machine's link for a while."""
        with _and_back(self.lab.cut_link, self.lab.mend_link):
            time.sleep(seconds)

    def some_seconds(self, most: float) -> None:
        """Wait for a random time, so that a fault does not always hit the same line."""
        time.sleep(random.uniform(0, most))

    def finish(self, deadline_s: float = 900) -> dict[str, Any]:
        """Wait until the run is complete, and check the machine, its identity and its other disk."""
        self.ended("COMPLETED", deadline_s=deadline_s)
        report = report_of(self.operator, self.run_id)
        assert report["outcome"] == "done"
        assert report["closure"]["built"] == report["closure"]["booted"], report["closure"]
        self.proved()
        assert self.on_machine("readlink /run/booted-system") == report["closure"]["booted"]
        assert report["identity"]["final"]["node_key"] == self._node[0]
        assert self.on_machine(f"cat {leaks.TOKEN}") == self._brought[1]
        return report

    def proved(self) -> None:
        """Check that the machine runs its final system as the same node, and that its other disk is untouched."""
        assert self.where() == FINAL
        assert self._seen_by_operator() == self._node, "another node than before"
        key = self.on_machine("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        assert key == self.lab.host_key.split()[1], "another host key than before"
        assert self._data_digest() == self.data, "the other disk has changed"

    def arguments_are_clean(self) -> None:
        """Check that no process has a secret in its arguments now, here or, if it answers, on the machine."""
        assert leaks.in_arguments_now(self.lab, self._secrets) == set()

    def origin_is_clean(self) -> None:
        """Prove that the origin has no secret in a file that was written since this journey began."""
        assert leaks.on_machine(self.lab, self._secrets) == []

    def _data_digest(self) -> str:
        return self.on_machine("sha256sum </dev/disk/by-id/virtio-DATA0001").split()[0]

    def _seen_by_operator(self) -> tuple[str, str]:
        command = [*self.lab.tailscale, "status", "--json"]
        status = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
        peer = next(peer for peer in status["Peer"].values() if self.lab.address in peer["TailscaleIPs"])
        return peer["PublicKey"], peer["ID"]

    def _state(self) -> str:
        return str(self.operator.api(f"/flow_runs/{self.run_id}")["state"]["type"])

    def _done(self) -> set[str]:
        return phases_done(self.operator, self.run_id)

    def _until(self, what: str, ready: Callable[[], bool], deadline_s: float) -> None:
        ends = time.monotonic() + deadline_s
        while not ready():
            self.lab.require_machine()
            if time.monotonic() > ends:
                raise AssertionError(f"waited {deadline_s:.0f} s for {what}; done so far: {sorted(self._done())}")
            time.sleep(0.4)


@contextmanager
def _and_back(plant: Callable[[], object], mend: Callable[[], object]) -> Iterator[None]:
    """Do the one before the body and the other after it, whatever happens: no fault outlives what it is for.

    After an error the mending may fail too, of a machine or a process that is gone; the first error says more.
    """
    try:
        plant()
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            mend()
        raise
    mend()


@contextmanager
def local_way(lab: Lab) -> Iterator[str]:
    """An address of the machine outside its tailnet: a port of this machine's loopback that leads to its SSH server."""
    inside = [*lab.world.inside(), "busybox", "nc", "127.0.0.1", str(SSH_PORT)]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def carry() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return  # closed
                with link:
                    subprocess.Popen(inside, stdin=link.fileno(), stdout=link.fileno(), stderr=subprocess.DEVNULL)

        threading.Thread(target=carry, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
