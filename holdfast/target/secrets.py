"""Puts the user's secrets into the new root, or into the installer's RAM.

Keys for disks lie in RAM only while they are needed. A unit on the machine, `forget-keys`, is started before they come
and removes them if this end cannot. Its name does not begin like those of a run's work, which would wait for its end.
"""

import io
import math
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from holdfast.base.errors import CommandFailed, ConfigError, HoldfastError, Restarted
from holdfast.base.log import Log
from holdfast.base.settings import script
from holdfast.base.size import MIB
from holdfast.inventory.host import Host
from holdfast.inventory.secret import MAX_INSTALLER_SECRETS_BYTES, ExtraFile
from holdfast.ssh.connection import Connection

KEYS_S: Final = 60
FORGETS: Final = "forget-keys"
# An exit status of put-file.sh.
UNKNOWN_OWNER: Final = 3


def check_secrets(host: Host) -> None:
    """Read all secrets and files once and keep nothing, so that a locked or missing one is found early.

    Raises:
        ConfigError: one of them cannot be read.

    """
    for secret in (*host.encryption_keys, *host.files):
        secret.read()
    installer_secrets(host)


def installer_secrets(host: Host) -> bytes:
    """Return the secrets for the installer as a tar of plain files, for `kexec/run`; empty if there are none.

    Raises:
        ConfigError: one of them cannot be read, or together they are too large.

    """
    if not host.installer_secrets:
        return b""
    packed, total = io.BytesIO(), 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for secret in host.installer_secrets:
            content = secret.read()
            total += len(content)
            if total > MAX_INSTALLER_SECRETS_BYTES:
                raise ConfigError(
                    f"the installer_secrets of {host.name} are larger than {MAX_INSTALLER_SECRETS_BYTES // MIB} MiB"
                    " together.",
                    hint="They are for a login; what else the installer needs belongs in its image.",
                )
            entry = tarfile.TarInfo(secret.name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def put_file(target: Connection, file: ExtraFile, root: str, *, names_known: bool, timeout_s: float) -> None:
    """Put a file into the new root and replace an existing one. Its content travels on standard input.

    Args:
        target: a connection to the installer, or to the final system.
        file: the file.
        root: where the new root is mounted; `/` in the final system.
        names_known: whether the final system has its users. Until then, a file whose owner is unknown belongs to root
            alone (0600).
        timeout_s: seconds until it has to be there.

    Raises:
        ConfigError: the file cannot be read, or the final system does not know its owner.
        CommandFailed: the file cannot be written, or a folder above it is a link.

    """
    later = () if names_known else ("--later",)
    content = file.read()
    try:
        _run(target, [*later, root, file.path, file.owner, file.mode, "0755", str(len(content))], content, timeout_s)
    except CommandFailed as error:
        if error.result.exit_status == UNKNOWN_OWNER:
            raise ConfigError(
                f"the owner of {file.path} is {file.owner}, and the final system does not know that user or group.",
                hint="Correct `owner`, or name numbers: some systems make their users only when they boot. Then retry.",
            ) from None
        raise _plainly(error, file.path) from None


def give_files_their_owners(target: Connection, host: Host) -> None:
    """Put the files whose owners are names into the running final system, which knows them. Raises as put_file."""
    for file in host.files:
        if not file.owner_is_known:
            put_file(target, file, "/", names_known=True, timeout_s=host.deadlines.upload_s)


@contextmanager
def keys_in_ram(
    host: Host,
    connect: Callable[[], AbstractContextManager[Connection]],
    log: Log,
    *,
    most_s: float,
    units: str = "",
) -> Iterator[None]:
    """Keep the host's encryption keys in the installer's RAM while the body runs; then overwrite and remove them.

    The machine removes them by itself when the body's work has ended there, and after most_s at the latest.

    Args:
        host: the host.
        connect: opens a connection to the installer, or lends an open one.
        log: warned if the keys could not be removed.
        most_s: seconds that the body's work may take.
        units: the units that do that work, as a pattern of systemctl; empty if it is no unit.

    Raises:
        ConfigError: a key cannot be read.
        CommandFailed: a key cannot be written, its place is not in RAM, or the machine would not remove it by itself.

    """
    if not host.encryption_keys:
        yield
        return
    contents = {key.path: key.read() for key in host.encryption_keys}
    at_most_s = math.ceil(most_s) + KEYS_S
    try:
        with connect() as target:
            _let_it_forget(target, tuple(contents), units, at_most_s)
            for path, content in contents.items():
                try:
                    _run(target, ["--ram", "/", path, "0:0", "0600", "0700", str(len(content))], content, KEYS_S)
                except CommandFailed as error:
                    raise _plainly(error, path) from None
        del contents
        yield
    finally:
        try:
            with connect() as target:
                _run(target, ["--forget", *(key.path for key in host.encryption_keys)], None, KEYS_S)
                target.run(["systemctl", "stop", f"{FORGETS}.service"], timeout_s=KEYS_S, check=False)
        except Restarted:
            pass  # the keys were in RAM, and are gone
        except HoldfastError as error:
            when = "when the formatting there has ended, and " if units else ""
            log.warn(
                f"the encryption keys could not be removed from the RAM of {host.name}: {error.message} It removes them"
                f" itself, {when}within {at_most_s} s at the latest."
            )


def _let_it_forget(target: Connection, paths: tuple[str, ...], units: str, at_most_s: int) -> None:
    """Start the unit that removes the keys by itself, in the place of one that an earlier run left."""
    target.run(["systemctl", "stop", f"{FORGETS}.service"], timeout_s=KEYS_S, check=False)
    command = ["sh", "-c", script("installer/forget-keys.sh"), "forget-keys.sh", str(at_most_s), units or "-", *paths]
    # systemd puts its variables in the place of `$NAME` (systemd.service(5), "Command lines").
    command = [word.replace("$", "$$") for word in command]
    options = ["--description=holdfast removes keys", "--property=CollectMode=inactive-or-failed"]
    start = ["sh", "-c", script("any/unit-start.sh"), "unit-start.sh", FORGETS, *options]
    target.run([*start, "--", *command], timeout_s=KEYS_S)


def _run(target: Connection, args: list[str], content: bytes | None, timeout_s: float) -> None:
    target.run(["sh", "-c", script("any/put-file.sh"), "put-file", *args], stdin=content, timeout_s=timeout_s)


def _plainly(error: CommandFailed, path: str) -> CommandFailed:
    """Return the failure without the script's whole text, which is one of the arguments."""
    said = error.result.stderr.strip().splitlines()
    return CommandFailed(
        error.result, message=f"{path} was not written: {said[-1] if said else error.result.summary()}"
    )
