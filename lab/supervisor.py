"""The process that owns a running lab: its network namespace, and every process in it.

`unshare --net python -m lab.supervisor RUN SOCKETS` makes the network. Then it starts and stops processes on request:
each connection to its unix socket brings one JSON object and gets one JSON answer. However the supervisor ends, all its
processes end too, and the namespace, which has no name, disappears with the last of them. So nothing stays behind.
"""

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NETWORK = (
    ["ip", "link", "set", "lo", "up"],
    # tailscaled stays in NoState if there is only loopback. This pair leads nowhere.
    ["ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1"],
    ["ip", "address", "add", "192.0.2.1/24", "dev", "lab0"],
    ["ip", "link", "set", "lab0", "up"],
    ["ip", "link", "set", "lab1", "up"],
    ["ip", "route", "add", "default", "via", "192.0.2.2"],
)
STOP_TIMEOUT_S = 10


def start_time(pid: int) -> int | None:
    """Return when a process started (clock ticks since boot), or None if it has ended; no two share pid and start."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # proc(5): field 3, the state, comes first here
    return None if fields[0] == "Z" else int(fields[19])


def ask(control: Path, request: dict[str, object], timeout_s: float = 30) -> dict[str, object]:
    """Send one request to a supervisor and return its answer.

    Raises:
        OSError: no supervisor listens there, or it did not answer in time.
        RuntimeError: it could not do what was asked.

    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout_s)
        link.connect(str(control))
        link.sendall(json.dumps(request).encode() + b"\n")
        with link.makefile("rb") as lines:
            answer: dict[str, object] = json.loads(lines.readline() or b'{"error": "it ended"}')
    if "error" in answer:
        raise RuntimeError(f"the lab's supervisor could not {request['do']}: {answer['error']}")
    return answer


@dataclass
class Supervisor:
    """Starts, stops and lists the lab's processes.

    Attributes:
        run: the folder of logs and of `supervisor.json`, which has pid and start time of all processes.
        children: the processes by name; one that has ended stays until it is started again.

    """

    run: Path
    children: dict[str, subprocess.Popen[bytes]]

    def record(self) -> None:
        """Write down which processes run, for `down` after a crash."""
        everyone = {"supervisor": os.getpid()}
        everyone |= {name: child.pid for name, child in self.children.items() if child.poll() is None}
        fresh = self.run / ".supervisor.json"
        fresh.write_text(json.dumps({name: {"pid": pid, "started": start_time(pid)} for name, pid in everyone.items()}))
        fresh.rename(self.run / "supervisor.json")

    def start(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        """Start a process; its output goes to `NAME.log`. It gets SIGKILL if the supervisor dies."""
        if name in self.children and self.children[name].poll() is None:
            raise RuntimeError(f"{name} runs already")
        with (self.run / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                env=os.environ | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.record()

    def stop(self, name: str) -> None:
        """End a process: SIGTERM, and SIGKILL after `STOP_TIMEOUT_S` seconds. It may have ended already."""
        child = self.children.get(name)
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.record()

    def do(self, request: dict[str, object]) -> dict[str, object]:
        """Carry out one request: `start`, `stop`, `list` or `reach`."""
        match request:
            case {"do": "start", "name": str(name), "argv": list(argv), "env": dict(env)}:
                self.start(name, [str(word) for word in argv], {str(key): str(env[key]) for key in env})
            case {"do": "stop", "name": str(name)}:
                self.stop(name)
            case {"do": "list"}:
                return {name: child.poll() for name, child in self.children.items()}
            case {"do": "reach", "port": int(port)}:
                with socket.create_connection(("127.0.0.1", port), timeout=2):
                    pass
            case _:
                raise RuntimeError(f"unknown request {request}")
        return {}

    def answer(self, listener: socket.socket) -> None:
        """Take one connection and answer it; an error is an answer too."""
        link, _ = listener.accept()
        with link:
            link.settimeout(2)
            try:
                with link.makefile("rb") as lines:
                    reply = self.do(json.loads(lines.readline()))
            except (OSError, RuntimeError, ValueError) as problem:
                reply = {"error": str(problem)}
            try:
                link.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                return  # nobody waits for the answer any more

    def serve(self, control: Path, owner: int | None) -> None:
        """Answer until SIGTERM or until the owner's pipe closes. Then stop everything, the last first.

        The folder of the sockets is removed too.
        """
        with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as waiting:
            listener.bind(str(control))
            listener.listen()
            waiting.register(listener, selectors.EVENT_READ)
            if owner is not None:
                waiting.register(owner, selectors.EVENT_READ)
            try:
                self.record()
                # The owner's pipe becomes readable when it closes.
                while all(key.fileobj is listener for key, _ in waiting.select()):
                    self.answer(listener)
            except SystemExit:
                pass
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                for name in reversed(list(self.children)):
                    self.stop(name)
                shutil.rmtree(control.parent)


def main() -> None:
    """Run a supervisor, with the arguments RUN SOCKETS; with `--owned` it ends when its standard input closes."""
    run, sockets = Path(sys.argv[1]), Path(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for command in NETWORK:
        subprocess.run(command, check=True)
    Supervisor(run, {}).serve(sockets / "control.sock", 0 if "--owned" in sys.argv else None)


if __name__ == "__main__":
    main()
