"""A plain probe of the machine's SSH port, beside a run: from when on could anybody have reached it again?"""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

AWAY_PAUSE_S: Final = 0.2
# While the machine answers it is asked seldom: OpenSSH 9.8 and later counts who leaves without a login.
HERE_PAUSE_S: Final = 3.0
ATTEMPT_S: Final = 2.0
PORT: Final = 22
CONNECTED: Final = b"HTTP/1.1 101 "


def accepts(tailscaled: Path, address: str, deadline_s: float) -> bool:
    """Return whether the SSH port at the address accepts a connection over the tailnet, within `deadline_s` seconds.

    Args:
        tailscaled: the socket of this side's tailscaled, whose network is in userspace. It is asked to dial, as
            `tailscale nc` does (tailscale's client/local, UserDial).
        address: the machine's address.
        deadline_s: how long it may take.

    """
    request = (
        "POST /localapi/v0/dial HTTP/1.1\r\nHost: local-tailscaled.sock\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n"
        f"Dial-Host: {address}\r\nDial-Port: {PORT}\r\nDial-Network: tcp\r\nContent-Length: 0\r\n\r\n"
    )
    ends = time.monotonic() + deadline_s
    said = b""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.settimeout(deadline_s)
            link.connect(str(tailscaled))
            link.sendall(request.encode())
            while len(said) < len(CONNECTED):
                link.settimeout(max(0.01, ends - time.monotonic()))
                piece = link.recv(len(CONNECTED) - len(said))
                if not piece:
                    return False
                said += piece
        except OSError:
            return False
    return said == CONNECTED


class Probe:
    """Asks until the body of its context ends; each attempt is on its own, so that one that hangs hides nothing.

    Attributes:
        returns: when the machine answered again after it had not, in seconds since 1970.

    """

    def __init__(self, tailscaled: Path, address: str) -> None:
        self._where = tailscaled, address
        self.returns: list[float] = []
        self._away = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._asking = threading.Thread(target=self._ask, name="probe", daemon=True)

    def __enter__(self) -> Self:
        self._asking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._asking.join()

    def _ask(self) -> None:
        with ThreadPoolExecutor(max_workers=1 + round(ATTEMPT_S / AWAY_PAUSE_S)) as attempts:
            while not self._ended.is_set():
                began = time.time()
                attempt = attempts.submit(self._attempt, began)
                if not self._away:
                    attempt.result()
                self._ended.wait(AWAY_PAUSE_S if self._away else HERE_PAUSE_S)

    def _attempt(self, began: float) -> None:
        answers = accepts(*self._where, ATTEMPT_S)
        with self._lock:
            if answers and self._away:
                self._away = False
                self.returns.append(time.time())
            elif not answers and not self._returned_since(began):
                self._away = True

    def _returned_since(self, began: float) -> bool:
        """Return whether the machine has come back since then: an attempt that began before may still fail."""
        return bool(self.returns) and self.returns[-1] > began
