"""Errors, one class for each thing that the user has to do next.

HoldfastError
  ConfigError         correct an input
  TargetRefused       change the target or the request
  LoginRefused        give the right user, key or password
  NotTrusted          find out first why it is not the expected machine
  UnexpectedState     look at the target
    Restarted         retry: it starts from what runs now
    BackInInstaller   retry: it tries the new system once more
  Unreachable         bring the link back, or wait
    ConnectionLost    run the phase again: it attaches to what still runs
    DeadlinePassed    see what was awaited, and what was seen
      NeverCame       retry later
  CommandFailed       read the command's last lines

Every error is one line with a hint. If a command failed, the error also carries the command's whole result. An error
may quote the target or the network, so this file makes message and hint printable and limits their length.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from holdfast.base.command import CommandResult
from holdfast.base.text import printable

LONGEST_MESSAGE: Final = 4000


class HoldfastError(Exception):
    """The base of all errors that Holdfast raises on purpose.

    Args:
        message: one line that says what is wrong, with the values that were seen.
        hint: one line that says what the user can do about it; may be empty.

    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(_one_line(message))
        self.message = _one_line(message)
        self.hint = _one_line(hint)

    def __str__(self) -> str:
        """Message and hint in one line."""
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


def _one_line(text: str) -> str:
    shown = printable(text[: LONGEST_MESSAGE + 1])
    return shown if len(shown) <= LONGEST_MESSAGE else shown[: LONGEST_MESSAGE - 1] + "…"


class ConfigError(HoldfastError):
    """The user corrects an input: the inventory, a setting, the flake, the image, a parameter."""


class TargetRefused(HoldfastError):
    """The target cannot be installed as it is: the user changes the target or the request."""


class NotTrusted(HoldfastError):
    """A host key, an archive or an identity is not the expected one: the user finds out why first."""


class Unreachable(HoldfastError):
    """The target cannot be reached: once the link is back, the user continues with *Retry*."""


class ConnectionLost(Unreachable):
    """An established connection broke: running the phase again attaches to the work that still runs there."""


class DeadlinePassed(Unreachable):
    """A wait reached its deadline: the message says what was awaited and what was seen last."""


class NeverCame(DeadlinePassed):
    """A wait for the target itself reached its deadline: waiting again at once is no use, *Retry* later may work."""


class LoginRefused(HoldfastError):
    """The target answers but refuses the login: the user provides the right user name, key or password."""


class UnexpectedState(HoldfastError):
    """The target is not what this run expects (another machine, another run): the user looks before continuing."""


class Restarted(UnexpectedState):
    """The target restarted while a phase worked on it: running the phase again starts from what runs now."""


class BackInInstaller(UnexpectedState):
    """The new system did not boot from its disk, and the standby runs: a Retry starts with its trial again."""


class CommandFailed(HoldfastError):
    """A command ended with a status other than 0: the error shows its last lines, and the user reads them.

    Args:
        result: the command's whole result.
        message: one line; by default made from the result.
        hint: see HoldfastError.

    """

    def __init__(self, result: CommandResult, *, message: str = "", hint: str = "") -> None:
        super().__init__(message or result.summary(), hint=hint)
        self.result = result


@contextmanager
def hinting(more: Callable[[], str]) -> Iterator[None]:
    """Add to the hint of what the body raises: of errors that a correction of the user's input mends.

    Args:
        more: returns the sentence to add, once the body has failed; empty for none.

    """
    try:
        yield
    except (ConfigError, CommandFailed) as error:
        error.hint = f"{error.hint} {more()}".strip()
        raise
