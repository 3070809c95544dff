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
from holdfast.ssh.sshconfig import SshSettings, look_up

# More jumps than anyone needs: a config that jumps in a circle ends here.
MOST_JUMPS: Final = 8


def endpoint_for(host: Host, settings: Settings, *, allow_first_use: bool = False, at: str = "") -> Endpoint:
    """Return how to reach a host of the inventory.

    Args:
        host: the host; its explicit fields win over the ssh config.
        settings: where the ssh config, the pins and the password are, and the operator's `tailscale`.
        allow_first_use: see Endpoint.
        at: another address of the machine to go to, the same way and with the same login; empty for its target. The
            host key to believe is that of its target, whatever is known of the other address.

    Raises:
        ConfigError: a proxy, a file or the ssh config is invalid.

    """
    config = settings.ssh_config
    configured = look_up(config, host.target, user=host.user, port=host.port)
    said = host.model_fields_set
    base = Endpoint(host=host.name, address=host.target, pins=settings.pins)
    made = dataclasses.replace(
        base,
        address=configured.address,
        port=host.port if "port" in said else configured.port,
        user=host.user if "user" in said else configured.user,
        identity_files=(host.identity_file,) if host.identity_file else configured.identity_files,
        proxy=parse_proxy(host, settings) if host.proxy else _proxy(configured, config, settings.pins, MOST_JUMPS),
        ssh_config=config,
        known_hosts=configured.known_hosts,
        host_key_alias=configured.host_key_alias,
        pinned_key=host.host_key,
        allow_first_use=allow_first_use,
        elevation=Elevation(host.elevation, _password(settings)),
        look_s=host.deadlines.look_s,
    )
    return dataclasses.replace(made, address=at, known_as=made.names_in_known_hosts()) if at else made


def as_root(host: Host) -> Host:
    """Return the host as its installer and its final system are reached."""
    return host.model_copy(update={"user": "root", "port": 22, "elevation": "none"})


def endpoint_beside(host: Host, settings: Settings, address: str, port: int) -> Endpoint:
    """Return how to reach installer and final system at another address: directly, as root.

    The host key to believe is that of the host's own target, whatever is known of the other address.

    Args:
        host: the host.
        settings: as for endpoint_for.
        address: an address of the machine outside the tailnet.
        port: TCP port of its SSH server there.

    Raises:
        ConfigError: see endpoint_for.

    """
    own = endpoint_for(as_root(host), settings)
    return dataclasses.replace(own, address=address, port=port, proxy=None, known_as=own.names_in_known_hosts())


def parse_proxy(host: Host, settings: Settings) -> Proxy:
    """Read the inventory's `proxy`: `tailscale-nc`, `socks5://HOST:PORT` or `command: …`.

    Raises:
        ConfigError: it is invalid.

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
        f"{host.name}: invalid proxy {text!r}.",
        hint="Use `tailscale-nc`, `socks5://HOST:PORT` or `command: PROGRAM ARGUMENTS`.",
    )


def _proxy(configured: SshSettings, config: Path | None, pins: Path, jumps_left: int) -> Proxy | None:
    if configured.proxy_jump:
        *before, last = configured.proxy_jump.split(",")
        return Jump(_hop(last, ",".join(before), config, pins, jumps_left), configured.proxy_jump)
    if configured.proxy_command:
        # As OpenSSH runs it: in a shell that the command replaces.
        return ProxyCommand(("sh", "-c", f"exec {configured.proxy_command}"))
    return None


def _hop(spec: str, before: str, config: Path | None, pins: Path, jumps_left: int) -> Endpoint:
    """Return how to reach a jump host, `[USER@]HOST[:PORT]`, by way of the ones before it."""
    if jumps_left == 0:
        raise ConfigError(
            f"More than {MOST_JUMPS} jump hosts on the way to {spec}.",
            hint="Check ProxyJump in your ssh config.",
        )
    match = re.fullmatch(r"(?:ssh://)?(?:(?P<user>.+)@)?(?P<host>\[[^]]+\]|[^:]+)(?::(?P<port>\d+))?", spec.strip())
    if match is None:
        raise ConfigError(f"Invalid jump host {spec!r}.", hint="Write `USER@HOST:PORT` in ProxyJump.")
    name = match["host"].strip("[]")
    configured = look_up(config, name, user=getpass.getuser(), port=22)
    if before:
        configured = dataclasses.replace(configured, proxy_jump=before)
    return Endpoint(
        host=name,
        address=configured.address,
        pins=pins,
        port=int(match["port"] or configured.port),
        user=match["user"] or configured.user,
        identity_files=configured.identity_files,
        proxy=_proxy(configured, config, pins, jumps_left - 1),
        ssh_config=config,
        known_hosts=configured.known_hosts,
        host_key_alias=configured.host_key_alias,
    )


def _password(settings: Settings) -> SecretStr | None:
    file = settings.sudo_password_file
    if file is None:
        return None
    try:
        return SecretStr(file.read_text(encoding="utf-8").rstrip("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Cannot read the password file {file}: {error}.", hint="Correct HOLDFAST_SUDO_PASSWORD_FILE."
        ) from error
