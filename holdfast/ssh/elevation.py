"""How a command begins: how it becomes root's, and how the password gets to sudo and nowhere else."""

import re
import secrets
from collections.abc import Sequence
from typing import Final

from holdfast.base.errors import ConfigError, LoginRefused
from holdfast.base.text import printable
from holdfast.ssh.endpoint import Endpoint

# $1 the mark, then the command. Says on standard error that it begins, and as which process. The command is
# not exec'd: the shell turns its death by a signal into a status, which paramiko would not report.
# A shell that is no login shell often lacks the folders of the system's own tools.
_WRAPPER: Final = (
    'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"; export PATH; '
    'printf "%s %s]" "$1" "$$" >&2; shift; "$@"; exit $?'
)


class Gate:
    """Watches a command's standard error until the command has begun.

    The password is sent once, and only when the prompt has been seen; the command's own standard input
    only when the mark has been seen. So neither can be read as the other, whether sudo asks or not.

    Args:
        endpoint: where the command runs.
        root: whether it has to be root's.

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
            ConfigError: doas would have to ask for a password, which it does only at a terminal.

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
            hint="Let doas.conf permit the login without one (nopass), or use sudo.",
        )

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes from standard error; return what to send, and what is the command's own.

        Raises:
            LoginRefused: the password was asked for a second time.

        """
        self._seen = (self._seen + data)[-65536:]
        begun = re.search(re.escape(self._mark).encode() + rb" (\d{1,10})\]", self._seen)
        if begun is not None:
            self.open = True
            self.process = begun[1].decode()
            # What came before (sudo's lecture, a word from the shell's start-up files) is not the command's.
            return b"", self._seen[begun.end() :]
        asked = self._seen.count(self._prompt.encode())
        if asked > 1:
            raise self.refused()
        if asked and not self._asked and self._password is not None:
            self._asked = True
            return self._password.encode() + b"\n", b""
        return b"", b""

    def refused(self) -> LoginRefused:
        """Return the error that says why the command never began."""
        said = self._seen.decode("utf-8", "replace").replace(self._prompt, "").strip().splitlines()
        words = printable(said[-1].strip())[:200] if said else "no reason given"
        if self._method == "none":
            return LoginRefused(
                f"{self._where} lets us in, but runs no command: {words}.",
                hint="Give the user a POSIX shell as login shell.",
            )
        wrong = "the password was not accepted" if self._asked else words
        return LoginRefused(
            f"{self._method} gives no root on {self._where}: {wrong}.",
            hint="Permit it for the user there; if it asks for a password, set sudo_password_file.",
        )
