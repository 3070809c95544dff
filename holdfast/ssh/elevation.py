"""How a command starts: how it becomes root, and how the password reaches sudo and nothing else."""

import re
import secrets
from collections.abc import Sequence
from typing import Final

from holdfast.base.errors import ConfigError, LoginRefused
from holdfast.base.text import printable
from holdfast.ssh.endpoint import Endpoint

# $1 the mark, then the command. Writes to standard error that the command begins, and as which process. The command is
# not exec'd: the shell turns its death by a signal into an exit status, and paramiko would not report the signal.
# A shell that is not a login shell often lacks the folders of the system's own tools.
_WRAPPER: Final = (
    'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"; export PATH; '
    'printf "%s %s]" "$1" "$$" >&2; shift; "$@"; exit $?'
)


class Gate:
    """Watches a command's standard error until the command has begun.

    The password is sent once, and only after the prompt; the command's own standard input is sent only after
    the mark. So neither can be read as the other, whether sudo asks or not.

    Args:
        endpoint: where the command runs.
        root: True for a command that must run as root; False runs it as the login.

    """

    def __init__(self, endpoint: Endpoint, *, root: bool) -> None:
        elevation = endpoint.elevation
        elevate = root and endpoint.user != "root"
        nonce = secrets.token_hex(8)
        self.open = False
        self.process = ""
        self._method = elevation.method if elevate else "none"
        self._password = elevation.password.get_secret_value() if elevation.password is not None else None
        self._prompt = f"[holdfast-prompt-{nonce}]"
        self._mark = f"[holdfast-begin-{nonce}"
        self._where = str(endpoint)
        self._endpoint, self._root = endpoint, root
        self._asked = False
        self._seen = b""

    def again(self) -> "Gate":
        """Return a gate for another command on the same terms."""
        return Gate(self._endpoint, root=self._root)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the whole command for the login's shell.

        Raises:
            ConfigError: doas would need a password, which it reads only from a terminal.

        """
        inner = ["sh", "-c", _WRAPPER, "sh", self._mark, *argv]
        match self._method, self._password:
            case "none", _:
                return inner
            case "sudo", None:
                return ["sudo", "-n", "--", *inner]
            case "sudo", _:
                return ["sudo", "-S", "-p", self._prompt, "--", *inner]
            case _, None:
                return ["doas", "-n", *inner]
        raise ConfigError(
            f"{self._where}: doas reads a password only from a terminal.",
            hint="Permit the login without one (nopass) in doas.conf, or use sudo.",
        )

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes from standard error; return the bytes to send, and the bytes that are the command's own.

        Raises:
            LoginRefused: the password was asked for a second time.

        """
        self._seen = (self._seen + data)[-65536:]
        begun = re.search(re.escape(self._mark).encode() + rb" (\d{1,10})\]", self._seen)
        if begun is not None:
            self.open = True
            self.process = begun[1].decode()
            # What came before it (sudo's lecture, output of the shell's start-up files) is not the command's.
            return b"", self._seen[begun.end() :]
        asked = self._seen.count(self._prompt.encode())
        if asked > 1:
            raise self.refused()
        if asked and not self._asked and self._password is not None:
            self._asked = True
            return self._password.encode() + b"\n", b""
        return b"", b""

    def refused(self) -> LoginRefused:
        """Return the error for a command that never began, with the reason."""
        said = self._seen.decode("utf-8", "replace").replace(self._prompt, "").strip().splitlines()
        words = printable(said[-1].strip())[:200] if said else "no reason given"
        if self._method == "none":
            return LoginRefused(
                f"{self._where} accepts the login, but runs no command: {words}.",
                hint="Give the user a POSIX shell as login shell.",
            )
        wrong = "the password was not accepted" if self._asked else words
        return LoginRefused(
            f"{self._method} does not give root on {self._where}: {wrong}.",
            hint="Permit it for that user; if it asks for a password, set HOLDFAST_SUDO_PASSWORD_FILE.",
        )
