"""What the user's ssh config says about a target.

OpenSSH itself is asked (`ssh -G`), so that Include, Match, patterns, the system's own config (/etc/ssh/ssh_config) and
its order mean what they mean there. `ssh -G` leaves some tokens in place; they are filled in here (ssh_config(5)).
"""

import contextlib
import getpass
import hashlib
import os
import pwd
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from holdfast.base.errors import ConfigError, DeadlinePassed
from holdfast.base.process import run_local
from holdfast.base.text import printable

_SSH_G_WITHIN_S: Final = 20
# A user that no config names.
_NOBODY: Final = "holdfast-nobody-named-one"
# What `ssh` reads without `-F` (ssh_config(5)).
_OWN_CONFIGS: Final = ("~/.ssh/config", "/etc/ssh/ssh_config")


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What OpenSSH would use for one host, after the whole config is applied.

    Attributes:
        address: HostName.
        port: Port.
        user: User.
        identity_files: IdentityFile, those of which there is a private or a public half.
        certificate_files: CertificateFile.
        agent: the agent's socket by IdentityAgent, or else the environment's; None if there is none.
        identities_only: IdentitiesOnly.
        accepted_algorithms: PubkeyAcceptedAlgorithms; None if OpenSSH does not say.
        proxy_command: ProxyCommand as written, or None.
        proxy_jump: ProxyJump, or None.
        known_hosts: UserKnownHostsFile and GlobalKnownHostsFile.
        revoked_keys: RevokedHostKeys, or None.
        host_key_algorithms: HostKeyAlgorithms; None if OpenSSH does not say.
        address_family: AddressFamily: `any`, `inet` or `inet6`.
        bind_address: BindAddress, or None.
        host_key_alias: HostKeyAlias, or None.

    """

    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    certificate_files: tuple[Path, ...]
    agent: Path | None
    identities_only: bool
    accepted_algorithms: tuple[str, ...] | None
    proxy_command: str | None
    proxy_jump: str | None
    known_hosts: tuple[Path, ...]
    revoked_keys: Path | None
    host_key_algorithms: tuple[str, ...] | None
    address_family: str
    bind_address: str | None
    host_key_alias: str | None


_Question: TypeAlias = tuple[Path | None, str, str | None, int | None, str]
_answers: ContextVar[dict[_Question, SshSettings] | None] = ContextVar("answers", default=None)


@contextlib.contextmanager
def asked_once() -> Iterator[None]:
    """While the body runs, look each host up once. For one attempt to connect: before the next, a config may change."""
    if _answers.get() is not None:
        yield
        return
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def look_up(
    config: Path | None, name: str, *, user: str | None = None, port: int | None = None, default_user: str = ""
) -> SshSettings:
    """Ask OpenSSH what applies to `name`; within `asked_once` only if that is not known yet.

    Args:
        config: the ssh config that the user names (`ssh -F`); None for what OpenSSH reads by itself.
        name: a host as one would give it to `ssh`.
        user: the user, as `ssh -l` names one; None if the config decides.
        port: the port, as `ssh -p` names one; None if the config decides.
        default_user: the user if neither says; empty for this process' own, as OpenSSH does.

    Raises:
        ConfigError: there is no `ssh` here, or the config is invalid.

    """
    answers = _answers.get()
    question = (config, name, user, port, default_user)
    found = answers.get(question) if answers is not None else None
    if found is None:
        found = _look_up(*question)
        if answers is not None:
            answers[question] = found
    return found


def _look_up(config: Path | None, name: str, user: str | None, port: int | None, default_user: str) -> SshSettings:
    said = _ask(config, name, user=user, port=port)
    ours = getpass.getuser()
    if user is None and default_user not in ("", ours) and _value(said, "user") == ours:
        # OpenSSH does not say whether a config named this user, or nobody did.
        named = _value(_ask_with_default(config, name, port=port), "user") != _NOBODY
        said = said if named else _ask(config, name, user=default_user, port=port)
    try:
        return parse(said, name)
    except ValueError as error:
        raise ConfigError(
            f"The output of `ssh -G {name}` cannot be parsed: {error}.", hint=f"Check {_named(config)}."
        ) from error


def _ask_with_default(config: Path | None, name: str, *, port: int | None) -> str:
    files = [str(config.absolute())] if config is not None else _OWN_CONFIGS
    with tempfile.NamedTemporaryFile("w", prefix="holdfast-ssh-", suffix=".conf") as file:
        # The first value found wins, so what follows the user's configs is only a default.
        file.write("".join(f'Include "{path}"\nMatch all\n' for path in files) + f"User {_NOBODY}\n")
        file.flush()
        return _ask(Path(file.name), name, user=None, port=port)


def _ask(config: Path | None, name: str, *, user: str | None, port: int | None) -> str:
    argv = ["ssh", "-G", "-T"]
    argv += ["-F", str(config.absolute())] if config is not None else []
    argv += ["-l", user] if user is not None else []
    argv += ["-p", str(port)] if port is not None else []
    try:
        # Time in which this process was stopped, as when a laptop sleeps, does not count.
        done = run_local(
            [*argv, "--", name], timeout_s=_SSH_G_WITHIN_S, check=False, if_missing="Install OpenSSH's client."
        )
    except DeadlinePassed as error:
        raise ConfigError(
            f"`ssh -G {name}` did not answer within {_SSH_G_WITHIN_S} s.",
            hint=f"Check what `Match exec` in {_named(config)} runs.",
        ) from error
    if done.exit_status:
        said = printable(done.stderr.strip().replace("\n", " | "))
        flag = f" -F {config}" if config is not None else ""
        raise ConfigError(f"OpenSSH refuses {_named(config)}: {said}.", hint=f"Try `ssh -G{flag} {name}`.")
    return done.stdout


def _named(config: Path | None) -> str:
    return str(config) if config is not None else "your ssh config"


def _values(output: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in output.split("\n"):
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value)
    return values


def _value(output: str, key: str) -> str:
    return _values(output).get(key, [""])[0]


def parse(output: str, name: str = "") -> SshSettings:
    """Parse the output of `ssh -G`. Each line is an option: its name in lower case, a space, its value.

    Args:
        output: the output.
        name: the host that was asked for.

    Raises:
        ValueError: it lacks address, port or user, or the port is not a number.

    """
    values = _values(output)

    def one(key: str) -> str | None:
        value = values.get(key, ["none"])[0]
        return None if value.lower() == "none" else value

    missing = [key for key in ("hostname", "port", "user") if key not in values]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    address, port, user = values["hostname"][0], int(values["port"][0]), values["user"][0]
    alias = one("hostkeyalias")
    tokens = _tokens(address, port, user, name or address, alias, one("proxyjump") or "")

    def files(key: str) -> Iterator[Path]:
        for value in values.get(key, []):
            if value.lower() != "none":
                yield _path(value, tokens)

    accepted = one("pubkeyacceptedalgorithms") or one("pubkeyacceptedkeytypes")
    known = [*values.get("userknownhostsfile", []), *values.get("globalknownhostsfile", [])]
    return SshSettings(
        address=address,
        port=port,
        user=user,
        identity_files=tuple(dict.fromkeys(file for file in files("identityfile") if _has_half(file))),
        certificate_files=tuple(dict.fromkeys(files("certificatefile"))),
        agent=_agent(values.get("identityagent", ["SSH_AUTH_SOCK"])[0], tokens),
        identities_only=one("identitiesonly") == "yes",
        accepted_algorithms=tuple(accepted.split(",")) if accepted else None,
        proxy_command=one("proxycommand"),
        proxy_jump=_filled(one("proxyjump") or "", tokens) or None,
        known_hosts=tuple(_path(file, tokens) for line in known for file in _split(line) if file != "none"),
        revoked_keys=_path(revoked, tokens) if (revoked := one("revokedhostkeys")) else None,
        host_key_algorithms=tuple(algorithms.split(",")) if (algorithms := one("hostkeyalgorithms")) else None,
        address_family=one("addressfamily") or "any",
        bind_address=one("bindaddress"),
        host_key_alias=alias,
    )


def environments_agent() -> Path | None:
    """Return the socket of the agent that the environment names, or None."""
    named = os.environ.get("SSH_AUTH_SOCK")
    return Path(named) if named else None


def _agent(value: str, tokens: Mapping[str, str]) -> Path | None:
    """Return the agent's socket by IdentityAgent (ssh_config(5))."""
    if value.lower() == "none":
        return None
    if value == "SSH_AUTH_SOCK":
        return environments_agent()
    if value.startswith("$") and not value.startswith("${"):
        named = os.environ.get(value[1:])
        return Path(named) if named else None
    return _path(value, tokens)


def _has_half(file: Path) -> bool:
    # Of a file that cannot be looked at, the login says why.
    try:
        return file.is_file() or file.with_name(f"{file.name}.pub").is_file()
    except OSError:
        return True
    except ValueError:
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _tokens(address: str, port: int, user: str, name: str, alias: str | None, jump: str) -> dict[str, str]:
    ours = socket.gethostname()
    connection = hashlib.sha1(f"{ours}{address}{port}{user}{jump}".encode(), usedforsecurity=False).hexdigest()
    return {
        "%": "%",
        "C": connection,
        "d": str(_home()),
        "h": address,
        "i": str(os.getuid()),
        "j": re.sub(r".*[,@/]|:\d+$", "", jump),
        "k": alias or name,
        "L": ours.split(".")[0],
        "l": ours,
        "n": name,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }


def _home() -> Path:
    """Return this user's home as OpenSSH finds it: not by the environment."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path.home()


def _filled(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> Path:
    """Return a path with its `~`, tokens and variables filled in; that of an unknown user stays, and leads nowhere."""
    if text == "~" or text.startswith("~/"):
        text = str(_home()) + text[1:]
    text = _filled(text, tokens)
    text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _split(line: str) -> Iterator[str]:
    """Split a list of paths. `ssh -G` prints blanks in them as they are: the longest that exists is one path."""
    words: Sequence[str] = line.split(" ")
    while words:
        count = next((end for end in range(len(words), 1, -1) if _is_file(" ".join(words[:end]))), 0)
        if not count:
            # What does not begin like a path belongs to the one before it.
            count = 1
            while count < len(words) and not words[count].startswith(("/", "~")) and words[count] != "none":
                count += 1
        if any(words[:count]):
            yield " ".join(words[:count])
        words = words[count:]
