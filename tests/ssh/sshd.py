"""A real sshd on loopback, with keys, a folder and a log of its own; and an agent."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

# See the fixture `listener`.
Listener = Callable[[Callable[[socket.socket], None]], int]


def make_key(path: Path, kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


def public(key: Path) -> str:
    """Return `TYPE BASE64` of a key pair."""
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def agent_with(socket_path: Path, *keys: Path, unconfirmed: Path | None = None) -> Iterator[None]:
    """Run an SSH agent with these keys; before them one that it would sign with only if a person confirmed."""
    nobody = os.environ | {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force"}
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL, env=nobody)
    try:
        # The socket is there a moment before somebody listens.
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(socket_path)) == 0:
                    break
            time.sleep(0.02)
        environment = os.environ | {"SSH_AUTH_SOCK": str(socket_path)}
        if unconfirmed is not None:
            subprocess.run(["ssh-add", "-q", "-c", str(unconfirmed)], check=True, env=environment)
        if keys:
            subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, env=environment)
        yield
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def gpg_agent(home: Path, public_key: Path) -> Iterator[str]:
    """Run a real gpg-agent with SSH support and one key, whose public half it writes; give its socket."""
    home.mkdir(mode=0o700)
    (home / "gpg-agent.conf").write_text("enable-ssh-support\n")
    environment = os.environ | {"GNUPGHOME": str(home)}

    def run(*argv: str) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout

    try:
        run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "me", "ed25519", "auth", "never")
        listed = run("gpg", "--with-colons", "--with-keygrip", "--list-keys", "me").splitlines()
        grip = next(line.split(":")[9] for line in listed if line.startswith("grp:"))
        (home / "sshcontrol").write_text(f"{grip} 0\n")
        public_key.write_text(run("gpg", "--export-ssh-key", "me"))
        yield run("gpgconf", "--list-dirs", "agent-ssh-socket").strip()
    finally:
        run("gpgconf", "--kill", "gpg-agent")


def gone(pid: int) -> bool:
    """Return whether a process ends within 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


@dataclass
class Sshd:
    """`bin` comes first in the PATH of its sessions."""

    folder: Path
    client_key: Path
    settings: tuple[str, ...] = ()
    more_keys: tuple[Path, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "sshd.log"

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def start(self) -> None:
        self.bin.mkdir(exist_ok=True)
        if not self.host_key.exists():
            make_key(self.host_key)
        keys = self.folder / "authorized_keys"
        keys.write_text("".join(f"{public(key)}\n" for key in (self.client_key, *self.more_keys)))
        # sshd does not start without its folder for privilege separation.
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        lines = (
            *self.settings,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {keys}",
            f"PidFile {self.folder / 'sshd.pid'}",
            # Another HOME, so that the user's own start-up files are not read.
            f"SetEnv PATH={self.bin}:/usr/local/bin:/usr/bin:/bin HOME={self.folder}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "StrictModes no",
            "UsePAM no",
            "LogLevel DEBUG1",
        )
        config.write_text("".join(f"{line}\n" for line in lines))
        # Absolute paths: sshd executes itself again from `/`.
        self.process = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", str(self.log)], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {self.log.read_text()}")

    def sessions(self) -> list[int]:
        """Return the process ids of all descendants of the listening sshd."""
        assert self.process is not None
        found, todo = [], [self.process.pid]
        while todo:
            parent = todo.pop()
            done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
            children = [int(pid) for pid in done.stdout.split()]
            found += children
            todo += children
        return found

    def cut(self) -> None:
        """Break all connections, and what runs in them, as a power failure would."""
        for pid in self.sessions():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        if self.process is None:
            return
        self.cut()
        self.process.terminate()
        self.process.wait(timeout=10)
        self.process = None


@contextlib.contextmanager
def running(folder: Path, client_key: Path) -> Iterator[Sshd]:
    """A server that runs while the body does."""
    sshd = Sshd(folder, client_key)
    folder.chmod(0o755)
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()
