"""A client of the user's SSH agent: which keys it holds, and signatures by them (draft-ietf-sshm-ssh-agent).

Every call has a deadline: an agent may ask a person before it signs, and nobody may be there.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base import overlap
from holdfast.base.deadline import Deadline
from holdfast.base.text import printable

# OpenSSH's own limit for one message (AGENT_MAX_LEN).
MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 500
_REQUEST_IDENTITIES: Final = 11
_IDENTITIES: Final = 12
_SIGN: Final = 13
_SIGNATURE: Final = 14
_FLAGS: Final = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent cannot be reached, refuses, or answers what cannot be read; the message says which."""


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key of the agent.

    Attributes:
        blob: its public key, or its certificate.
        comment: its comment, printable; may be empty.

    """

    blob: bytes
    comment: str


class Agent:
    """A connection to an agent; whoever opens it closes it.

    Args:
        path: its socket.
        deadline: for the connection.

    Raises:
        AgentError: nothing answers there.

    """

    def __init__(self, path: Path, deadline: Deadline) -> None:
        self.path = path
        self._stream = socket.socket(socket.AF_UNIX)
        try:
            self._stream.settimeout(deadline.timeout_s())
            self._stream.connect(str(path))
        except OSError as error:
            self._stream.close()
            raise AgentError(error.strerror or str(error)) from error

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def keys(self, deadline: Deadline) -> list[AgentKey]:
        """Return the keys that it offers, in its order.

        Raises:
            AgentError: it does not answer in time, or not as an agent does.

        """
        kind, body = self._ask(bytes([_REQUEST_IDENTITIES]), deadline)
        if kind != _IDENTITIES:
            raise AgentError("it does not list its keys")
        with _readable():
            (count,) = struct.unpack_from(">I", body)
            at, found = 4, []
            for _ in range(min(count, MAX_KEYS)):
                blob, at = take_string(body, at)
                comment, at = take_string(body, at)
                found.append(AgentKey(blob, printable(comment.decode("utf-8", "replace"))[:100]))
        return found

    def sign(self, blob: bytes, data: bytes, algorithm: str, deadline: Deadline) -> bytes:
        """Return the signature of `data` by a key, as SSH sends it.

        Args:
            blob: the key, as `keys` returned it.
            data: what to sign.
            algorithm: the signature's, as `rsa-sha2-512`; of importance for RSA only.
            deadline: a person may have to confirm.

        Raises:
            AgentError: it refuses, or does not answer in time.

        """
        flags = struct.pack(">I", _FLAGS.get(algorithm, 0))
        with overlap.alone():
            kind, body = self._ask(bytes([_SIGN]) + put_string(blob) + put_string(data) + flags, deadline)
        if kind != _SIGNATURE:
            raise AgentError("the agent refuses to sign with it")
        with _readable():
            return take_string(body, 0)[0]

    def _ask(self, message: bytes, deadline: Deadline) -> tuple[int, bytes]:
        try:
            self._stream.settimeout(deadline.timeout_s())
            self._stream.sendall(put_string(message))
            (length,) = struct.unpack(">I", self._exactly(4, deadline))
            if not 0 < length <= MAX_MESSAGE_BYTES:
                raise AgentError("its answer is not an SSH agent's")
            answer = self._exactly(length, deadline)
        except TimeoutError as error:
            raise AgentError(f"no answer within {deadline.allowed_s:.0f} s") from error
        except OSError as error:
            raise AgentError(error.strerror or str(error)) from error
        return answer[0], answer[1:]

    def _exactly(self, size: int, deadline: Deadline) -> bytes:
        data = b""
        while len(data) < size:
            self._stream.settimeout(deadline.timeout_s())
            more = self._stream.recv(size - len(data))
            if not more:
                raise AgentError("it hung up")
            data += more
        return data


def put_string(data: bytes) -> bytes:
    """Return a string as SSH sends it: its length in four bytes, then itself (RFC 4251, 5)."""
    return struct.pack(">I", len(data)) + data


def take_string(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the string at an offset, and the offset after it.

    Raises:
        ValueError: it does not end within the data.

    """
    if at + 4 > len(data):
        raise ValueError("it ends too early")
    (length,) = struct.unpack_from(">I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise ValueError("it ends too early")
    return data[at + 4 : end], end


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ValueError, struct.error) as error:
        raise AgentError("its answer is not an SSH agent's") from error
