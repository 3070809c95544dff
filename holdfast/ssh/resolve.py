"""From the inventory's host to an endpoint: the inventory wins, the user's ssh config fills the gaps."""

import dataclasses
import getpass
import re
import shlex
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from holdfast.base.errors import ConfigError
from holdfast.base.settings import Settings
from holdfast.inventory.host import Host
from holdfast.ssh.endpoint import Elevation, Endpoint, Jump, Proxy, ProxyCommand, Socks5
from holdfast.ssh.sshconfig import Looked, look_up

# More jumps than anyone has; a config that jumps in a circle ends here.
MOST_JUMPS: Final = 8


def endpoint_for(host: Host, settings: Settings, *, allow_first_use: bool = False) -> Endpoint:
    """Return how to reach a host of the inventory.

    Args:
        host: the host; what it says explicitly wins over the ssh config.
        settings: where the ssh config, the pins and the password are, and the operator's `tailscale`.
        allow_first_use: whether an unknown host key is pinned.

    Raises:
        ConfigError: a proxy, a file or the ssh config is not valid.

    """
    config = settings.ssh_config
    looked = look_up(config, host.target, user=host.user, port=host.port)
    said = host.model_fields_set
    base = Endpoint(host=host.name, address=host.target, pins=settings.pins)
    return dataclasses.replace(
        base,
        address=looked.address,
        port=host.port if "port" in said else looked.port,
        user=host.user if "user" in said else looked.user,
        identity_files=(host.identity_file,) if host.identity_file else looked.identity_files,
        proxy=parse_proxy(host, settings) if host.proxy else _proxy(looked, config, settings.pins, MOST_JUMPS),
        ssh_config=config,
        known_hosts=looked.known_hosts,
        host_key_alias=looked.host_key_alias,
        pinned_key=host.host_key,
        allow_first_use=allow_first_use,
        elevation=Elevation(host.elevation, _password(settings)),
    )


def as_root(host: Host) -> Host:
    """Return the host as its installer and its final system are reached."""
    return host.model_copy(update={"user": "root", "port": 22, "elevation": "none"})


def endpoint_beside(host: Host, settings: Settings, address: str, port: int) -> Endpoint:
    """Return how to reach installer and final system at another address: directly, as root.

    Whatever is known of that address, the key to believe is the one that is believed at the host's own target.

    Args:
        host: the host.
        settings: as for endpoint_for.
        address: an address of the machine outside the tailnet.
        port: TCP port of its SSH server there.

    Raises:
        ConfigError: see endpoint_for.

    """
    own = endpoint_for(as_root(host), settings)
    return dataclasses.replace(
        own, address=address, port=port, proxy=None, host_key_alias=own.host_key_alias or own.address
    )


def parse_proxy(host: Host, settings: Settings) -> Proxy:
    """Read the inventory's `proxy`: `tailscale-nc`, `socks5://HOST:PORT` or `command: …`.

    Raises:
        ConfigError: it is none of these.

    """
    text = host.proxy or ""
    if text == "tailscale-nc":
        return ProxyCommand((*settings.tailscale, "nc", "%h", "%p"))
    if text.startswith("command:"):
        argv = shlex.split(text.removeprefix("command:"))
        if argv:
            return ProxyCommand(tuple(argv))
    url = urlsplit(text)
    if url.scheme == "socks5" and url.hostname and url.port:
        return Socks5(url.hostname, url.port)
    raise ConfigError(
        f"{host.name}: {text!r} is no proxy.",
        hint="Use `tailscale-nc`, `socks5://HOST:PORT` or `command: PROGRAM ARGUMENTS`.",
    )


def _proxy(looked: Looked, config: Path | None, pins: Path, jumps_left: int) -> Proxy | None:
    if looked.proxy_jump:
        *before, last = looked.proxy_jump.split(",")
        return Jump(_hop(last, ",".join(before), config, pins, jumps_left), looked.proxy_jump)
    if looked.proxy_command:
        # As OpenSSH runs it: by the shell, which is replaced.
        return ProxyCommand(("sh", "-c", f"exec {looked.proxy_command}"))
    return None


def _hop(spec: str, before: str, config: Path | None, pins: Path, jumps_left: int) -> Endpoint:
    """Return how to reach a jump host, `[USER@]HOST[:PORT]`, by way of the ones before it."""
    if jumps_left == 0:
        raise ConfigError(
            f"More than {MOST_JUMPS} jump hosts on the way to {spec}.",
            hint="See ProxyJump in your ssh config.",
        )
    match = re.fullmatch(r"(?:ssh://)?(?:(?P<user>.+)@)?(?P<host>\[[^]]+\]|[^:]+)(?::(?P<port>\d+))?", spec.strip())
    if match is None:
        raise ConfigError(f"{spec!r} is no jump host.", hint="Write `USER@HOST:PORT` in ProxyJump.")
    name = match["host"].strip("[]")
    looked = look_up(config, name, user=getpass.getuser(), port=22)
    if before:
        looked = dataclasses.replace(looked, proxy_jump=before)
    return Endpoint(
        host=name,
        address=looked.address,
        pins=pins,
        port=int(match["port"] or looked.port),
        user=match["user"] or looked.user,
        identity_files=looked.identity_files,
        proxy=_proxy(looked, config, pins, jumps_left - 1),
        ssh_config=config,
        known_hosts=looked.known_hosts,
        host_key_alias=looked.host_key_alias,
    )


def _password(settings: Settings) -> SecretStr | None:
    file = settings.sudo_password_file
    if file is None:
        return None
    try:
        return SecretStr(file.read_text(encoding="utf-8").rstrip("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the password file {file}: {error}.", hint="Correct it.") from error
