"""Errors, one class for each thing that the user has to do next.

HoldfastError
  ConfigError         correct an input
  TargetRefused       change the target, or what is asked for it
  LoginRefused        give the right user, key or password
  NotTrusted          find out first why it is not the expected machine
  UnexpectedState     look at the target
    Restarted         retry: it goes by what runs now
  Unreachable         bring the link back, or wait
    ConnectionLost    run the phase again: it joins what still runs
    DeadlinePassed    see what was awaited, and what was seen
      NeverCame       retry later
  CommandFailed       read the command's last lines

Every error is one line and carries a hint; where a command failed, it carries the whole result too. What an error
quotes may come from the target or the network, so message and hint are made printable, and bounded, here.
"""

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
    """The target cannot be installed as it is: the user changes the target, or what is asked for it."""


class NotTrusted(HoldfastError):
    """A host key, an archive or an identity is not the expected one: the user finds out why first."""


class Unreachable(HoldfastError):
    """The target cannot be reached: the user, or time, brings the link back; then *Retry* goes on."""


class ConnectionLost(Unreachable):
    """An established connection broke: running the phase again attaches to what still runs there."""


class DeadlinePassed(Unreachable):
    """Something awaited did not come in time; the message says what was awaited and last seen."""


class NeverCame(DeadlinePassed):
    """A wait for the target itself was in vain: the same wait again at once is of no use, *Retry* later is."""


class LoginRefused(HoldfastError):
    """The target answers but does not let us in: the user provides the right user, key or password."""


class UnexpectedState(HoldfastError):
    """The target is in nobody's plan (another machine, another run): the user looks before going on."""


class Restarted(UnexpectedState):
    """The target was switched off and on while a phase worked on it: running the phase again goes by what runs now."""


class CommandFailed(HoldfastError):
    """A command ended with a status other than 0: the user reads its last lines, which are shown.

    Args:
        result: the command's whole result.
        message: one line; by default made from the result.
        hint: see HoldfastError.

    """

    def __init__(self, result: CommandResult, *, message: str = "", hint: str = "") -> None:
        super().__init__(message or result.summary(), hint=hint)
        self.result = result
