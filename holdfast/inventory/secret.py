"""Secrets of the user: where each comes from on the operator, and where it goes on the target.

Their content is read when needed. It is never in a result, a message or an argument.
"""

import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Final, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from holdfast.base.errors import ConfigError
from holdfast.base.frozen import Frozen
from holdfast.base.places import HOLDFAST_RAM_DIR, INSTALLER_SECRETS
from holdfast.base.process import read_local
from holdfast.base.settings import settings
from holdfast.base.size import MIB
from holdfast.inventory.reference import InventoryPath

TIMEOUT_S: Final = 60.0
# See nix/scripts/installer/installer-restore.sh.
MAX_INSTALLER_SECRETS: Final = 64
MAX_INSTALLER_SECRETS_BYTES: Final = MIB
# The kernel's limit: the next number tells chown to change nothing.
MAX_ID: Final = 2**32 - 2

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"


def _absolute(path: str) -> str:
    if not path.isprintable():
        raise ValueError("it contains a control character")
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError("it must be the absolute path of a file, without `.`, `..` and empty parts")
    return path


def _outside_the_store(path: str) -> str:
    if PurePosixPath(path).is_relative_to("/nix/store"):
        raise ValueError("everybody can read the Nix store")
    return path


def _in_ram(path: str) -> str:
    places = ("/tmp/", "/run/")  # noqa: S108  of the installer
    if not path.startswith(places) or PurePosixPath(path).is_relative_to(HOLDFAST_RAM_DIR):
        raise ValueError(f"it must be below /tmp or /run, and not in {HOLDFAST_RAM_DIR}")
    return path


def _small(owner: str) -> str:
    if any(part.isdecimal() and int(part) > MAX_ID for part in owner.split(":")):
        raise ValueError(f"the number of a user or group is at most {MAX_ID}")
    return owner


Argument = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4096)]
"""A word of a command."""


class Secret(Frozen, ABC):
    """A secret of the user: a file on the operator, or a command there that prints it.

    Attributes:
        from_: the file on the operator, `from` in the inventory.
        command: the command on the operator, as a list; it runs without a shell, in the inventory's folder.

    """

    model_config = ConfigDict(serialize_by_alias=True)

    max_bytes: ClassVar[int]

    from_: InventoryPath | None = Field(default=None, alias="from")
    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=256)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Secret":
        if (self.from_ is None) == (self.command is None):
            raise ValueError("it needs either from or command")
        return self

    @property
    @abstractmethod
    def place(self) -> str:
        """Its path on the target."""

    def read(self) -> bytes:
        """Return its content; a command may take TIMEOUT_S seconds.

        Raises:
            ConfigError: it cannot be read, is empty or too large, or its command failed or did not end in time.

        """
        try:
            if self.command is not None:
                return read_local(
                    self.command, timeout_s=TIMEOUT_S, max_bytes=self.max_bytes, folder=settings().inventory.parent
                )
            return _content(self.from_ or Path(), self.max_bytes)
        except ConfigError as error:
            raise ConfigError(f"for {self.place} on the target: {error.message}", hint=error.hint) from None


class PlacedSecret(Secret):
    """A secret whose path the user chooses.

    Attributes:
        path: its absolute path on the target; of an encryption key, below /tmp or /run.

    """

    path: Annotated[str, Field(max_length=1024), AfterValidator(_absolute)]

    @property
    def place(self) -> str:
        """Its path on the target."""
        return self.path


class ExtraFile(PlacedSecret):
    """A file of the final system.

    Attributes:
        owner: `USER:GROUP`: names in the final system, or numbers.
        mode: its permissions in octal, without setuid, setgid and sticky, as `0600`.

    """

    max_bytes = 64 * MIB

    path: Annotated[str, Field(max_length=1024), AfterValidator(_absolute), AfterValidator(_outside_the_store)]
    owner: Annotated[
        str, Field(pattern=rf"^({_NAME}|[0-9]{{1,10}}):({_NAME}|[0-9]{{1,10}})$"), AfterValidator(_small)
    ] = "root:root"
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = "0600"

    @property
    def owner_is_known(self) -> bool:
        """Whether user and group are the same in every system: each is root or a number."""
        return all(part == "root" or part.isdecimal() for part in self.owner.split(":"))


class EncryptionKey(PlacedSecret):
    """A key file that the disko script reads in the installer."""

    max_bytes = MIB

    path: Annotated[str, Field(max_length=1024), AfterValidator(_absolute), AfterValidator(_in_ram)]


class InstallerSecret(Secret):
    """A secret for the installer's own commands before Tailscale (`beforeTailscaled` of the image).

    Attributes:
        name: the name of its file in INSTALLER_SECRETS.

    """

    max_bytes = MIB

    # Like plain_name in nix/scripts/installer/installer-restore.sh.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]

    @property
    def place(self) -> str:
        """Its path in the installer."""
        return f"{INSTALLER_SECRETS}/{self.name}"


S = TypeVar("S", bound=Secret)


def distinct(secrets: tuple[S, ...]) -> tuple[S, ...]:
    """Return the secrets unchanged. Raises ValueError if two of them have the same path."""
    paths = [secret.place for secret in secrets]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path} is listed twice")
    return secrets


def _content(path: Path, max_bytes: int) -> bytes:
    """Read a regular file; anything else could block for ever."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(max_bytes + 1) if regular else b""
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Correct `from` in the inventory, or the file's permissions.",
        ) from None
    if not regular:
        raise ConfigError(f"{path} is not a regular file.", hint="Name a file, or use `command`.")
    if not content:
        raise ConfigError(f"{path} is empty.", hint="Put the secret there.")
    if len(content) > max_bytes:
        raise ConfigError(f"{path} is larger than {max_bytes // MIB} MiB.", hint="Correct `from` in the inventory.")
    return content
