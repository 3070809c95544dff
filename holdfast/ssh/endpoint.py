"""How to reach a target: address, login, proxy, and which host keys to believe."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import SecretStr

from holdfast.base.errors import ConfigError

# What is safe in a proxy's command line and an ssh config; a leading dash would be an option.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*|::[A-Za-z0-9:.%]*")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


@dataclass(frozen=True, slots=True)
class ProxyCommand:
    """A local command whose standard input and output carry the connection.

    Attributes:
        argv: the command; `%h`, `%p` and `%r` stand for address, port and user, `%n` for the name that was asked for,
            `%%` for a percent sign.

    """

    argv: tuple[str, ...]

    def filled(self, *, address: str, port: int, user: str, name: str) -> list[str]:
        """Return the command for one target."""
        values = {"h": address, "p": str(port), "r": user, "n": name, "%": "%"}
        return [re.sub(r"%(.)", lambda token: values.get(token[1], token[0]), argument) for argument in self.argv]


@dataclass(frozen=True, slots=True)
class Socks5:
    """A SOCKS5 proxy (RFC 1928) without login; it resolves the target's name.

    Attributes:
        address: its host name or IP address.
        port: its TCP port.

    """

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Another SSH server on the way, as `ProxyJump` in the user's ssh config says.

    Attributes:
        via: how to reach that server; may itself have a proxy.

    """

    via: "Endpoint"


Proxy: TypeAlias = ProxyCommand | Socks5 | Jump


@dataclass(frozen=True, slots=True)
class Elevation:
    """How a login that is not root becomes root.

    Attributes:
        method: `none` if the login is root, or cannot become root.
        password: what sudo asks for; None if its rules require none.

    """

    method: Literal["none", "sudo", "doas"] = "none"
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Everything that is needed to open a connection to one target.

    Attributes:
        host: the inventory's name; used in messages and as the key in Holdfast's own known_hosts.
        address: host name or IP address.
        port: TCP port of the SSH server.
        user: login name.
        asked_as: the name that was asked for, before the ssh config said where it leads; `%n` in a proxy's command.
        identity_files: keys to offer: private ones, or public ones whose private half the agent has.
        certificate_files: certificates for them; if empty, `KEY-cert.pub` beside each.
        agent: the socket of the user's agent, or None.
        identities_only: True offers no other keys of the agent than those of the files.
        accepted_algorithms: the signature algorithms to use, or None for any.
        own_key: the file of the inventory's own key, which is offered before all others, or None.
        proxy: what carries the connection, or None for direct TCP.
        known_hosts: the user's files; read, never written.
        revoked_keys: the user's RevokedHostKeys, or None.
        host_key_algorithms: the algorithms to take of the server, or None for any.
        address_family: `any`, `inet` or `inet6`: which addresses to connect to.
        bind_address: the address to connect from, or None for any.
        host_key_alias: the name to look for in them instead of the address, or None.
        known_as: the names to look for in them if the address is not the one that the user's files know; else empty.
        certified_as: the name that a host certificate must be for if it is not the address; else empty.
        pins: Holdfast's own known_hosts file, where keys are pinned on first use.
        pinned_key: `TYPE BASE64`, the key that the inventory pins, or None.
        allow_first_use: True pins an unknown host key, only in the preflight at the origin; False refuses it.
        elevation: how commands become root.
        look_s: seconds that a look at the machine may take.

    Raises:
        ConfigError: address, user or port is invalid.

    """

    host: str
    address: str
    pins: Path
    port: int = 22
    user: str = "root"
    asked_as: str = ""
    identity_files: tuple[Path, ...] = ()
    certificate_files: tuple[Path, ...] = ()
    agent: Path | None = None
    identities_only: bool = False
    accepted_algorithms: tuple[str, ...] | None = None
    own_key: Path | None = None
    proxy: Proxy | None = None
    known_hosts: tuple[Path, ...] = ()
    revoked_keys: Path | None = None
    host_key_algorithms: tuple[str, ...] | None = None
    address_family: str = "any"
    bind_address: str | None = None
    host_key_alias: str | None = None
    known_as: tuple[str, ...] = ()
    certified_as: str = ""
    pinned_key: str | None = None
    allow_first_use: bool = False
    elevation: Elevation = field(default_factory=Elevation)
    look_s: float = 300

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise ConfigError(f"{self.host}: invalid address {self.address!r}.", hint="Use a host name or an IP.")
        if not _USER.fullmatch(self.user):
            raise ConfigError(f"{self.host}: invalid user {self.user!r}.", hint="Correct the host's user.")
        if not 0 < self.port < 65536:
            raise ConfigError(f"{self.host}: invalid TCP port {self.port}.", hint="Use 1 to 65535.")

    def takes(self, kind: str) -> bool:
        """Return whether a host key's algorithm is one that the user takes (HostKeyAlgorithms)."""
        taken = self.host_key_algorithms
        return taken is None or kind in taken or f"{kind}-cert-v01@openssh.com" in taken

    def names_in_known_hosts(self) -> tuple[str, ...]:
        """Return the names to look for in the user's files, as OpenSSH does; the first that is known counts."""
        if self.known_as:
            return self.known_as
        if self.host_key_alias:
            return (self.host_key_alias,)
        address = self.address.lower()
        # With a port other than 22 the bare name counts only if the name with the port is unknown.
        return (address,) if self.port == 22 else (f"[{address}]:{self.port}", address)

    def __str__(self) -> str:
        """Name host, user and address, as messages do."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.host} ({self.user}@{address}:{self.port})"
