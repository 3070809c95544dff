"""How to reach a target: address, login, way through, and whom to believe."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import SecretStr

from holdfast.base.errors import ConfigError

# What may stand in a proxy's command line or an ssh config; a leading dash would be an option.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*|::[A-Za-z0-9:.%]*")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


@dataclass(frozen=True, slots=True)
class ProxyCommand:
    """A local command whose standard input and output are the way to the target.

    Attributes:
        argv: the command; `%h`, `%p` and `%r` stand for address, port and user, `%%` for a percent sign.

    """

    argv: tuple[str, ...]

    def filled(self, *, address: str, port: int, user: str) -> list[str]:
        """Return the command for one target."""
        values = {"h": address, "p": str(port), "r": user, "n": address, "%": "%"}
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
        spec: the value of `ProxyJump`, for OpenSSH.

    """

    via: "Endpoint"
    spec: str


Proxy: TypeAlias = ProxyCommand | Socks5 | Jump


@dataclass(frozen=True, slots=True)
class Elevation:
    """How a login that is not root becomes root.

    Attributes:
        method: `none` when the login is root, or has to do without.
        password: what sudo or doas asks for; None where their rules ask for none.

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
        identity_files: private keys to offer, in this order; keys of the agent come after them.
        proxy: the way through, or None for a direct TCP connection.
        ssh_config: the user's ssh config, of which OpenSSH needs the jump hosts.
        known_hosts: the user's files; read, never written.
        host_key_alias: the name to look for in them instead of the address, or None.
        pins: Holdfast's own known_hosts file, where keys are pinned on first use.
        pinned_key: `TYPE BASE64`, the key that the inventory pins, or None.
        allow_first_use: whether an unknown key is pinned; true only in the preflight at the origin.
        elevation: how commands become root's.

    Raises:
        ConfigError: address, user or port hold what they never can.

    """

    host: str
    address: str
    pins: Path
    port: int = 22
    user: str = "root"
    identity_files: tuple[Path, ...] = ()
    proxy: Proxy | None = None
    ssh_config: Path | None = None
    known_hosts: tuple[Path, ...] = ()
    host_key_alias: str | None = None
    pinned_key: str | None = None
    allow_first_use: bool = False
    elevation: Elevation = field(default_factory=Elevation)

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise ConfigError(f"{self.host}: {self.address!r} is no address.", hint="Give a name or an IP.")
        if not _USER.fullmatch(self.user):
            raise ConfigError(f"{self.host}: {self.user!r} is no login name.", hint="Correct the host's user.")
        if not 0 < self.port < 65536:
            raise ConfigError(f"{self.host}: {self.port} is no TCP port.", hint="Use 1 to 65535.")

    def __str__(self) -> str:
        """Name host, user and address, as messages do."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.host} ({self.user}@{address}:{self.port})"
