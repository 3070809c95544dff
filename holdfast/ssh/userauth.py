"""The client's side of SSH's authentication protocol (RFC 4252), one question at a time.

paramiko's own signs with each key without asking first whether it is welcome. With an agent that costs a person's
confirmation for each, and one key that cannot sign ends the login.
"""

import queue
from dataclasses import dataclass
from typing import Final, Literal

import paramiko

from holdfast.base import brake
from holdfast.base.deadline import Deadline
from holdfast.ssh.agent import put_string

MAX_BANNER_BYTES: Final = 4096
_LOOK_EVERY_S: Final = 0.2
_SERVICE_REQUEST: Final = 5
_SERVICE_ACCEPT: Final = 6
_REQUEST: Final = 50
_FAILURE: Final = 51
_SUCCESS: Final = 52
_BANNER: Final = 53
_PK_OK: Final = 60
_CONNECTION: Final = "ssh-connection"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answers.

    Attributes:
        kind: `ready` to begin, `in`, `welcome` (the key may sign), or `no`.
        methods: with `no`, the methods that may still help.
        partial: with `no`, whether this step was right and more are wanted.

    """

    kind: Literal["ready", "in", "welcome", "no"]
    methods: tuple[str, ...] = ()
    partial: bool = False


class UserAuth:
    """Takes the place of paramiko's authentication handler.

    Args:
        transport: the connection, after its key exchange.
        user: the login.

    Attributes:
        banner: what the server said to the person at the client, so far; bounded, untrusted.

    """

    def __init__(self, transport: paramiko.Transport, user: str) -> None:
        self._transport = transport
        self._user = user
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._in = False
        self.banner = b""
        # paramiko's thread looks the messages up here.
        self._handler_table = {
            _SERVICE_ACCEPT: lambda _message: self._answers.put(Answer("ready")),
            _FAILURE: self._take_failure,
            _SUCCESS: self._take_success,
            _BANNER: self._take_banner,
            _PK_OK: lambda _message: self._answers.put(Answer("welcome")),
        }
        transport.auth_handler = self  # type: ignore[assignment]  # of paramiko's handler only these methods are used

    def is_authenticated(self) -> bool:
        """Return whether we are logged in; paramiko asks."""
        return self._in

    def get_username(self) -> str:
        """Return the login; paramiko asks."""
        return self._user

    def abort(self) -> None:
        """Wake who waits for an answer; paramiko calls it when the link is dead."""
        self._answers.put(None)

    def begin(self, deadline: Deadline) -> Answer:
        """Ask for the service. Raises as `wait`."""
        message = paramiko.Message()
        message.add_byte(bytes([_SERVICE_REQUEST]))
        message.add_string("ssh-userauth")
        self._send(message)
        return self.wait(deadline)

    def ask_without_key(self) -> None:
        """Ask to be let in as we are (`none`); `wait` gives the answer."""
        self._send(self._request("none"))

    def offer(self, blob: bytes, algorithm: str, deadline: Deadline) -> Answer:
        """Ask whether a key would be welcome. Raises as `wait`."""
        message = self._request("publickey")
        message.add_boolean(False)
        message.add_string(algorithm)
        message.add_string(blob)
        self._send(message)
        return self.wait(deadline)

    def to_sign(self, blob: bytes, algorithm: str) -> bytes:
        """Return what the key has to sign (RFC 4252, 7)."""
        return put_string(self._transport.session_id or b"") + self._signed_part(blob, algorithm)

    def prove(self, blob: bytes, algorithm: str, signature: bytes, deadline: Deadline) -> Answer:
        """Log in with a signature over what `to_sign` returned. Raises as `wait`."""
        message = paramiko.Message()
        message.add_bytes(self._signed_part(blob, algorithm))
        message.add_string(signature)
        self._send(message)
        return self.wait(deadline)

    def wait(self, deadline: Deadline) -> Answer:
        """Wait for the server's answer.

        Raises:
            TimeoutError: it did not answer in time.
            paramiko.SSHException, OSError: the link broke.
            Stopped: the run is cancelled.

        """
        while True:
            brake.check()
            try:
                answer = self._answers.get(timeout=max(0.0, min(_LOOK_EVERY_S, deadline.left_s())))
            except queue.Empty:
                if deadline.passed():
                    raise TimeoutError from None
                answer = None
            if answer is not None:
                return answer
            if not self._transport.is_active():
                raise self._transport.get_exception() or paramiko.SSHException()

    def waited_for(self, deadline: Deadline, at_most_s: float) -> Answer | None:
        """Wait as `wait`, but at most so many seconds; None if no answer came in that time."""
        try:
            return self.wait(Deadline.after(min(at_most_s, deadline.left_s())))
        except TimeoutError:
            return None

    def _request(self, method: str) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(bytes([_REQUEST]))
        message.add_string(self._user)
        message.add_string(_CONNECTION)
        message.add_string(method)
        return message

    def _signed_part(self, blob: bytes, algorithm: str) -> bytes:
        message = self._request("publickey")
        message.add_boolean(True)
        message.add_string(algorithm)
        message.add_string(blob)
        return message.asbytes()

    def _send(self, message: paramiko.Message) -> None:
        self._transport._send_message(message)  # type: ignore[attr-defined]  # the stubs leave it out

    def _take_failure(self, message: paramiko.Message) -> None:
        methods = tuple(message.get_list())
        self._answers.put(Answer("no", methods, partial=message.get_boolean()))

    def _take_success(self, _message: paramiko.Message) -> None:
        self._in = True
        self._transport._auth_trigger()  # type: ignore[attr-defined]  # as above
        self._answers.put(Answer("in"))

    def _take_banner(self, message: paramiko.Message) -> None:
        self.banner = (self.banner + message.get_string() + b"\n")[:MAX_BANNER_BYTES]
