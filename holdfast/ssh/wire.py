"""The byte stream to a target: directly over TCP, through a command, a SOCKS5 proxy or another SSH server."""

import contextlib
import errno
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from holdfast.base import clock
from holdfast.base.deadline import Deadline
from holdfast.base.errors import Unreachable
from holdfast.base.text import printable
from holdfast.ssh.endpoint import Endpoint, ProxyCommand, Socks5

T = TypeVar("T")

# Banners and key exchange need some ten KiB; a server that nobody trusts yet must not fill the memory.
MAX_BYTES_BEFORE_LOGIN: Final = 1024 * 1024
# More than a server's name and version, with which it begins.
FIRST_BYTES: Final = 512

# AddressFamily of ssh_config(5).
_FAMILIES: Final = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
_SOCKS_REPLIES: Final = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class Stream(Protocol):
    """What paramiko needs of a socket."""

    def send(self, data: bytes, /) -> int:
        """Send some of the data; return how many bytes."""

    def recv(self, size: int, /) -> bytes:
        """Receive at most `size` bytes; none at the end."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Set how long send and recv wait, in seconds."""

    def close(self) -> None:
        """Close both directions."""


class Wire:
    """A stream that records when it last heard the other side, and closes what carries it.

    Args:
        stream: the open stream.
        close_carrier: ends what carries it, such as the proxy's process.
        explain: returns the carrier's complaint; empty if there is none.

    """

    def __init__(
        self,
        stream: Stream,
        *,
        close_carrier: Callable[[], None] = lambda: None,
        explain: Callable[[], str] = lambda: "",
    ) -> None:
        self._stream = stream
        self._close_carrier = close_carrier
        self.explain = explain
        self._heard_at = clock.monotonic()
        self._left: int | None = MAX_BYTES_BEFORE_LOGIN
        self._unread = b""
        self._closed = False  # paramiko reads it, as it does on Python's own sockets

    def send(self, data: bytes) -> int:
        """See Stream."""
        return self._stream.send(data)

    def speaks(self, deadline: Deadline) -> bool:
        """Wait for the first bytes, which `recv` returns later. Return false if there were none by the deadline."""
        self._stream.settimeout(deadline.timeout_s())
        try:
            self._unread = self._stream.recv(FIRST_BYTES)
        except TimeoutError:
            return False
        except (OSError, EOFError):
            return True  # whoever reads next hears of it
        return True

    def recv(self, size: int) -> bytes:
        """See Stream."""
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
        else:
            data = self._stream.recv(size)
        self._heard_at = clock.monotonic()
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                # With an errno, which paramiko expects of every OSError.
                said = f"it sent more than {MAX_BYTES_BEFORE_LOGIN} bytes before the login"
                raise ConnectionError(errno.EMSGSIZE, said)
        return data

    def trust(self) -> None:
        """Accept any number of bytes from now on: the host key is right, and we are logged in."""
        self._left = None

    def settimeout(self, seconds: float | None) -> None:
        """See Stream."""
        self._stream.settimeout(seconds)

    def silent_s(self) -> float:
        """Return the seconds since the last byte arrived."""
        return clock.monotonic() - self._heard_at

    def close(self) -> None:
        """Close the stream and end what carries it."""
        self._closed = True
        with contextlib.suppress(OSError, EOFError):
            self._stream.close()  # the channel of a lost jump host raises
        self._close_carrier()


def open_tcp(
    host: str, address: str, port: int, deadline: Deadline, *, family: str = "any", source: str | None = None
) -> socket.socket:
    """Open a TCP connection to the first of the name's addresses that answers.

    Args:
        host: the host's name in messages.
        address: host name or IP address.
        port: TCP port.
        deadline: for the name look-up too. Each address gets its share of the time that is left.
        family: `any`, or only addresses of `inet` or `inet6`.
        source: the address to connect from; None for any.

    Raises:
        Unreachable: the name is unknown, or no address answered.

    """
    where = f"{address}:{port}"
    try:
        found = _within(deadline, lambda: socket.getaddrinfo(address, port, _FAMILIES[family], socket.SOCK_STREAM))
    except OSError as error:
        raise Unreachable(
            f"{host}: the name {address!r} cannot be resolved: {error.strerror or error}.",
            hint="Correct the target's address. A MagicDNS name needs Tailscale on this machine; beside a tailscaled in"
            ' userspace, which resolves no names for others, set proxy = "tailscale-nc", or "socks5://localhost:1055".',
        ) from error
    reason: OSError | None = None
    for left, (of_family, kind, protocol, _, sockaddr) in zip(range(len(found), 0, -1), found, strict=True):
        stream = socket.socket(of_family, kind, protocol)
        # One that swallows packets must leave time for the others, as an IPv6 address that leads nowhere.
        stream.settimeout(deadline.timeout_s() / left)
        try:
            if source is not None:
                stream.bind(socket.getaddrinfo(source, 0, of_family, socket.SOCK_STREAM)[0][4])
            stream.connect(sockaddr)
        except OSError as error:
            stream.close()
            reason = error
        else:
            return stream
    said = "no answer" if isinstance(reason, TimeoutError) else (reason and reason.strerror) or str(reason)
    raise Unreachable(
        f"{host}: no connection to {where} within {deadline.allowed_s:.0f} s: {said}.",
        hint="Check that the target is up, that sshd listens there, and that this machine is on the tailnet.",
    ) from reason


def _within(deadline: Deadline, call: Callable[[], T]) -> T:
    """Return what `call` returns; at the deadline raise TimeoutError and abandon its thread."""
    answers: queue.Queue[T | OSError] = queue.Queue()

    def work() -> None:
        try:
            answers.put(call())
        except OSError as error:
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left_s())
    except queue.Empty:
        raise TimeoutError("no answer in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def open_command(endpoint: Endpoint, proxy: ProxyCommand) -> Wire:
    """Start the proxy's command and return the stream through it.

    The command gets a socket as standard input and output, so that it ends by itself if this process dies.
    It runs in its own process group, which is killed when the wire is closed.

    Raises:
        Unreachable: the command cannot be started.

    """
    name = endpoint.asked_as or endpoint.address
    argv = proxy.filled(address=endpoint.address, port=endpoint.port, user=endpoint.user, name=name)
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            argv,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise Unreachable(
            f"{endpoint.host}: the proxy command `{argv[0]}` cannot be started: {error.strerror}.",
            hint="Install it on this machine, or correct the host's proxy.",
        ) from error
    finally:
        theirs.close()
    said = bytearray()
    reader = threading.Thread(target=_keep_last, args=(process, said), daemon=True)
    reader.start()

    def explain() -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
            reader.join(timeout=0.5)
        status = process.returncode
        state = "still runs" if status is None else f"ended with status {status}"
        words = printable(bytes(said).decode("utf-8", "replace").strip().replace("\n", " | "))
        return f"the proxy command `{' '.join(argv)[:120]}` {state}: {words or '(no output)'}"

    return Wire(ours, close_carrier=lambda: _end(process), explain=explain)


def _keep_last(process: subprocess.Popen[bytes], said: bytearray, limit_bytes: int = 1000) -> None:
    assert process.stderr is not None
    with process.stderr as stream:
        while data := os.read(stream.fileno(), 4096):
            said += data
            del said[:-limit_bytes]


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        return


def open_socks5(host: str, proxy: Socks5, address: str, port: int, deadline: Deadline) -> socket.socket:
    """Open a TCP connection through a SOCKS5 proxy (RFC 1928), which resolves the name.

    Raises:
        Unreachable: the proxy does not answer, is not a SOCKS5 proxy, or cannot connect.

    """
    stream = open_tcp(f"{host}, SOCKS5 proxy", proxy.address, proxy.port, deadline)
    through = f"through the SOCKS5 proxy {proxy.address}:{proxy.port}"
    try:
        stream.sendall(b"\x05\x01\x00")
        if _exactly(stream, 2, deadline) != b"\x05\x00":
            raise ConnectionError("it requires a login, or is not a SOCKS5 proxy")
        name = address.encode("idna") if not address.isascii() else address.encode()
        stream.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        _, reply, _, kind = _exactly(stream, 4, deadline)
        if reply:
            raise ConnectionError(_SOCKS_REPLIES.get(reply, f"reply {reply}"))
        length = {1: 4, 4: 16}.get(kind) or _exactly(stream, 1, deadline)[0]
        _exactly(stream, length + 2, deadline)
    except OSError as error:
        stream.close()
        raise Unreachable(
            f"{host}: no connection to {address}:{port} {through}: {error}.",
            hint="Check that the proxy runs, and that the target is up and on the tailnet.",
        ) from error
    return stream


def _exactly(stream: socket.socket, size: int, deadline: Deadline) -> bytes:
    data = b""
    while len(data) < size:
        stream.settimeout(deadline.timeout_s())
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionError("it hung up")
        data += more
    return data


def relay(argv: list[str]) -> None:
    """Connect standard input and output through a SOCKS5 proxy: a ProxyCommand, since OpenSSH speaks no SOCKS5.

    Args:
        argv: the proxy's address and port, then the target's.

    """
    proxy_address, proxy_port, address, port = argv
    proxy = Socks5(proxy_address, int(proxy_port))
    stream = open_socks5(address, proxy, address, int(port), Deadline.after(60))
    stream.settimeout(None)

    def outward() -> None:
        while data := os.read(0, 65536):
            stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    threading.Thread(target=outward, daemon=True).start()
    while data := stream.recv(65536):
        os.write(1, data)


if __name__ == "__main__":
    relay(sys.argv[1:])
