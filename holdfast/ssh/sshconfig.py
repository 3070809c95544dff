"""What the user's ssh config says about a target.

OpenSSH itself is asked (`ssh -G`), so that Include, Match, patterns and tokens mean what they mean there.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base.errors import ConfigError
from holdfast.base.text import printable

_SSH_G_WITHIN_S: Final = 20


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What OpenSSH would use for one host, after the whole config is applied.

    Attributes:
        address: HostName.
        port: Port.
        user: User.
        identity_files: IdentityFile, those that exist.
        proxy_command: ProxyCommand as written, or None.
        proxy_jump: ProxyJump as written, or None.
        known_hosts: UserKnownHostsFile and GlobalKnownHostsFile.
        host_key_alias: HostKeyAlias, or None.

    """

    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    proxy_command: str | None
    proxy_jump: str | None
    known_hosts: tuple[Path, ...]
    host_key_alias: str | None


def look_up(config: Path | None, name: str, *, user: str, port: int) -> SshSettings:
    """Ask OpenSSH what applies to `name`.

    Args:
        config: the user's ssh config; None for OpenSSH's own defaults.
        name: a host as one would give it to `ssh`.
        user: the user if the config names none.
        port: the port if the config names none.

    Raises:
        ConfigError: there is no `ssh` here, or the config is invalid.

    """
    include = f'Include "{config.absolute()}"\n' if config is not None else ""
    with tempfile.NamedTemporaryFile("w", prefix="holdfast-ssh-", suffix=".conf") as file:
        # The first value found wins, so what follows the user's config is only a default.
        file.write(f"{include}Match all\n  User {user}\n  Port {port}\n")
        file.flush()
        try:
            done = subprocess.run(
                ["ssh", "-G", "-T", "-F", file.name, "--", name],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_SSH_G_WITHIN_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError as error:
            raise ConfigError("There is no `ssh` on this machine.", hint="Install OpenSSH's client.") from error
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"`ssh -G {name}` did not answer within {_SSH_G_WITHIN_S} s.",
                hint=f"Check what `Match exec` in {config} runs.",
            ) from error
    if done.returncode:
        said = printable(done.stderr.strip().replace("\n", " | "))
        raise ConfigError(f"OpenSSH refuses {config}: {said}.", hint=f"Try `ssh -G -F {config} {name}`.")
    try:
        return parse(done.stdout)
    except ValueError as error:
        raise ConfigError(
            f"The output of `ssh -G {name}` cannot be parsed: {error}.", hint=f"Check {config}."
        ) from error


def parse(output: str) -> SshSettings:
    """Parse the output of `ssh -G`. Each line is an option: its name in lower case, a space, its value.

    Raises:
        ValueError: it lacks address, port or user, or the port is not a number.

    """
    values: dict[str, list[str]] = {}
    for line in output.split("\n"):
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value)

    def one(key: str) -> str | None:
        value = values.get(key, ["none"])[0]
        return None if value.lower() == "none" else value

    missing = [key for key in ("hostname", "port", "user") if key not in values]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    files = [_home(value) for value in values.get("identityfile", [])]
    known = " ".join(values.get("userknownhostsfile", []) + values.get("globalknownhostsfile", []))
    return SshSettings(
        address=values["hostname"][0],
        port=int(values["port"][0]),
        user=values["user"][0],
        identity_files=tuple(file for file in files if file.is_file()),
        proxy_command=one("proxycommand"),
        proxy_jump=one("proxyjump"),
        known_hosts=tuple(_home(file) for file in known.split() if file != "none"),
        host_key_alias=one("hostkeyalias"),
    )


def _home(text: str) -> Path:
    """Return a path with its `~` expanded; that of an unknown user stays, and leads to no file."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
