"""A real Prefect server, and a process that serves a flow whose phases only wait (served.py)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

PROJECT: Final = Path(__file__).parents[2]
WITHIN_S: Final = 300.0
ENDED: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
DEPLOYMENT: Final = "waits/cottage"


class Prefect:
    """The server, the process that serves, and their runs.

    Args:
        folder: for everything that they write.

    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = int(listener.getsockname()[1])
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._auth: httpx.BasicAuth | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.runs_dir = folder / "state" / "runs"
        self._env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_CLIENT_MAX_RETRIES": "8",
            "HOLDFAST_STATE_DIR": str(folder / "state"),
        }

    def asks_for(self, password: str) -> None:
        """Let the server that is started next ask for it."""
        self._env |= {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
        self._auth = httpx.BasicAuth(*password.split(":"))

    def start_server(self) -> None:
        self._start("server", ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)])
        self.until(lambda: self._answers("/health"))

    def start_serving(self) -> None:
        self._start("serve", ["tests.server.served"])
        self.until(lambda: self._answers(f"/deployments/name/{DEPLOYMENT}"))

    def stop(self, name: str) -> None:
        """End `server` or `serve`, if it is there."""
        if process := self._processes.pop(name, None):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, way: str, **state: object) -> str:
        """Create a run, as the UI does, and return its id."""
        deployed = self._ask(f"/deployments/name/{DEPLOYMENT}")
        told = {"parameters": {"way": way}, "state": {"type": "SCHEDULED"} | state, "idempotency_key": str(uuid4())}
        return str(self._ask(f"/deployments/{deployed['id']}/create_flow_run", told)["id"])

    def cancel(self, run: str) -> None:
        """Press Cancel in the UI."""
        self._set(run, {"type": "CANCELLING", "name": "Cancelling"})

    def retry(self, run: str) -> None:
        """Press Retry in the UI."""
        self._set(run, {"type": "SCHEDULED", "name": "AwaitingRetry"})

    def state_of(self, run: str) -> dict[str, Any]:
        return dict(self._ask(f"/flow_runs/{run}")["state"])

    def ended(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended and its report is there, and return its state."""
        self.until(lambda: self.state_of(run)["type"] in ENDED)
        self.until((self.runs_dir / run / "report.json").is_file)
        return self.state_of(run)

    def in_phase(self, run: str, phase: str) -> None:
        """Wait until a run is in its phase."""
        self.until((self.runs_dir / run / "output.log").is_file)
        if phase == "pause":
            self.until(lambda: self.state_of(run)["type"] == "PAUSED")
        else:  # the flow runs before its first task does
            running = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
            self.until(lambda: bool(self._ask("/task_runs/filter", running)))

    def until(self, ready: Callable[[], bool]) -> None:
        ends = time.monotonic() + WITHIN_S
        while not ready():
            assert time.monotonic() < ends, "it never happened"
            time.sleep(0.2)

    def _set(self, run: str, state: dict[str, str]) -> None:
        answer = self._ask(f"/flow_runs/{run}/set_state", {"state": state, "force": False})
        assert answer["status"] == "ACCEPT", answer

    def _ask(self, path: str, body: dict[str, object] | None = None) -> Any:
        for wait_s in (0.5, 1, 2, 4, 8, 0):
            answer = httpx.request(
                "GET" if body is None else "POST", f"{self.url}{path}", json=body, auth=self._auth, timeout=30
            )
            if answer.status_code != 503:  # a busy SQLite
                break
            time.sleep(wait_s)
        answer.raise_for_status()
        return answer.json()

    def _answers(self, path: str) -> bool:
        try:
            return bool(self._ask(path))
        except httpx.HTTPError:
            return False

    def _start(self, name: str, module: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", *module],
                env=self._env,
                cwd=PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    made = Prefect(tmp_path_factory.mktemp("prefect"))
    try:
        yield made
    finally:
        made.stop("serve")
        made.stop("server")
