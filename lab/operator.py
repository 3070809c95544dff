"""The operator's side of the lab: a Prefect server and the served deployments, on loopback.

These processes run outside of the lab's network: the tailnet is their only way to the target.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import httpx

from lab.final import flake_dir
from lab.image import installer_image
from lab.nix import nix_wrapper
from lab.runtime import Lab
from lab.toolchain import announce

PROJECT: Final = Path(__file__).parent.parent
SERVER_DEADLINE_S: Final = 600
SERVE_DEADLINE_S: Final = 300
API_DEADLINE_S: Final = 60

INVENTORY: Final = """\
[defaults]
user = "root"

[cottage]
target = "{address}"
flake = "path:{flake}"
kexec = "{image}"
identity_file = "{key}"
proxy = "tailscale-nc"
host_key = "{host_key}"
disks = [{{ serial = "COTTAGE0001" }}]
local = "{nowhere}"
"""

NOWHERE: Final = "127.0.0.1:1"
"""Nobody listens there. Without `local`, the diagnosis would look for the guest's address in this machine's network."""


def _free_port(wanted: int) -> int:
    """Return the wanted loopback port, or any free one if it is taken."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", wanted))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Operator:
    """The Prefect server and `deployments.serve` of one lab; a context manager that ends what it started."""

    def __init__(self, lab: Lab, *, overrides: dict[str, str] | None = None) -> None:
        self.lab = lab
        self.state = lab.run_dir / "state"
        # Labs that start at the same time would all find Prefect's own port free.
        self.port = _free_port(4200 if lab.run_dir.name == "run" else 0)
        self.ui = f"http://127.0.0.1:{self.port}"
        self.overrides = overrides or {}
        self._processes: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    @property
    def env(self) -> dict[str, str]:
        """The environment of all the operator's processes."""
        return (
            os.environ
            | {
                "PATH": f"{nix_wrapper(self.lab.run_dir)}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(PROJECT),
                "PREFECT_HOME": str(self.lab.run_dir / "prefect"),
                "PREFECT_API_URL": f"{self.ui}/api",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "HOLDFAST_STATE_DIR": str(self.state),
                "HOLDFAST_INVENTORY": str(self.lab.run_dir / "hosts.toml"),
                "HOLDFAST_TAILSCALE": json.dumps(self.lab.tailscale),
            }
            | self.overrides
        )

    def __enter__(self) -> Self:
        for log in ("server.log", "serve.log"):
            (self.lab.run_dir / log).unlink(missing_ok=True)
        try:
            self._write_inventory()
            self.start_server()
            self.start_serving()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_server(self) -> None:
        """Start the Prefect server and wait until it answers; a database of before is used again."""
        announce(f"starting the Prefect server (about 20 s, at most {SERVER_DEADLINE_S} s) …")
        self._start(
            "server",
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)],
        )
        self._until("server", "the Prefect server", SERVER_DEADLINE_S, lambda: self._answers("/health"))

    def restart_server(self, *, away_s: float) -> None:
        """End the Prefect server, also in the middle of a run, and start it again after `away_s` seconds."""
        self._end("server")
        time.sleep(away_s)
        self.start_server()

    def start_serving(self) -> None:
        """Start `deployments.serve` and wait until its deployments exist."""
        announce(f"serving the deployments (about 10 s, at most {SERVE_DEADLINE_S} s) …")
        self._start("serve", [sys.executable, "-m", "deployments.serve"])
        self._until(
            "serve",
            "the deployments install/cottage and rehearse/cottage",
            SERVE_DEADLINE_S,
            lambda: all(self._answers(f"/deployments/name/{flow}/cottage") for flow in ("install", "rehearse")),
        )

    def stop_serving(self) -> None:
        """End `deployments.serve`; its deployments stay."""
        self._end("serve")

    def kill_serving(self) -> None:
        """Kill `deployments.serve`, as a power cut would: it cannot clean up."""
        process, log = self._processes.pop("serve")
        process.kill()
        process.wait()
        log.close()

    def ensure_up(self) -> None:
        """Start the server and `deployments.serve` if they were ended."""
        for name, start in (("server", self.start_server), ("serve", self.start_serving)):
            if name in self._processes:
                if self._processes[name][0].poll() is None:
                    continue
                self._end(name)  # it has ended by itself
            start()

    def start_another_worker(self) -> None:
        """Serve with the same inventory, as another machine would: without results, journals, pins and vault so far."""
        number = 1 + len(list(self.lab.run_dir.glob("worker-*")))
        worker = self.lab.run_dir / f"worker-{number}"
        self.state = worker / "state"
        self.overrides["PREFECT_LOCAL_STORAGE_PATH"] = str(worker / "storage")
        self.start_serving()

    def signal_flow(self, run_id: str, number: signal.Signals) -> None:
        """Send a signal to the process of a flow run that this operator's `deployments.serve` started.

        Raises:
            ProcessLookupError: the run has no process.

        """
        mine = {f"PREFECT__FLOW_RUN_ID={run_id}".encode(), f"HOLDFAST_STATE_DIR={self.state}".encode()}
        sent = 0
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                command = environ.with_name("cmdline").read_bytes()
                if b"prefect" in command and mine <= set(environ.read_bytes().split(b"\0")):
                    os.kill(int(environ.parent.name), number)
                    sent += 1
        if not sent:
            raise ProcessLookupError(f"run {run_id} has no process")

    def prefect(self, *arguments: str) -> int:
        """Run Prefect's own command line, as a user does, and return its exit status."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments], env=self.env, cwd=PROJECT, check=False
        ).returncode

    def api(self, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        """Ask the Prefect server; ask again if it is busy or away, so a request must be safe to repeat.

        Raises:
            httpx.HTTPError: it refused, or did not answer within API_DEADLINE_S seconds.

        """
        ends = time.monotonic() + API_DEADLINE_S
        while True:
            try:
                return cast("dict[str, Any]", self._ask(path, body))
            except httpx.HTTPError as error:
                refused = isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error
                if refused or time.monotonic() > ends:
                    raise
            time.sleep(1)

    def _ask(self, path: str, body: dict[str, object] | None = None) -> object:
        answer = httpx.request("GET" if body is None else "POST", f"{self.ui}/api{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _answers(self, path: str) -> bool:
        try:
            return bool(self._ask(path))
        except httpx.HTTPError:
            return False

    def newest_report(self, *, since: float) -> Path | None:
        """Return the newest report of a run, if one was written since that time (seconds since 1970)."""
        reports = [path for path in self.state.glob("runs/*/report.json") if path.stat().st_mtime >= since]
        return max(reports, key=lambda path: path.stat().st_mtime, default=None)

    def stop(self) -> None:
        """End what was started, the last first."""
        for name in reversed(list(self._processes)):
            self._end(name)

    def _end(self, name: str) -> None:
        process, log = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()

    def _start(self, name: str, command: list[str]) -> None:
        log = (self.lab.run_dir / f"{name}.log").open("ab")
        # In its own session, so that Ctrl-C in the terminal reaches only us; we end the processes in order.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],  # also when we are killed
            env=self.env,
            cwd=PROJECT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[name] = (process, log)

    def _until(self, name: str, what: str, deadline_s: float, ready: Callable[[], bool]) -> None:
        """Wait until a process is ready.

        Raises:
            RuntimeError: the process has ended, or the deadline is over; shows the end of its log.

        """
        process, log = self._processes[name]
        ends = time.monotonic() + deadline_s
        while not ready():
            if process.poll() is not None or time.monotonic() > ends:
                tail = Path(log.name).read_text(errors="replace").splitlines()[-10:]
                raise RuntimeError(f"{what} did not start; {log.name} ends with:\n" + "\n".join(tail))
            time.sleep(0.3)

    def _write_inventory(self) -> None:
        host_key = " ".join(self.lab.host_key.split()[:2])
        (self.lab.run_dir / "hosts.toml").write_text(
            INVENTORY.format(
                address=self.lab.address,
                flake=flake_dir(self.lab.run_dir),
                image=installer_image(),
                key=self.lab.key,
                host_key=host_key,
                nowhere=NOWHERE,
            )
        )
