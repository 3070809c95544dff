"""From the inventory's host to an endpoint: the inventory wins, the user's ssh config fills the gaps."""

import dataclasses
import os
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
    said = host.model_fields_set
    configured = look_up(
        config,
        host.target,
        user=host.user if "user" in said else None,
        port=host.port if "port" in said else None,
        default_user=host.user,
    )
    made = dataclasses.replace(
        _configured(host.name, host.target, configured, settings.pins),
        identity_files=(host.identity_file,) if host.identity_file else configured.identity_files,
        own_key=host.identity_file,
        proxy=parse_proxy(host, settings) if host.proxy else _proxy(configured, config, settings.pins, MOST_JUMPS),
        pinned_key=host.host_key,
        allow_first_use=allow_first_use,
        elevation=Elevation(host.elevation, _password(settings)),
        look_s=host.deadlines.look_s,
    )
    return _moved(made, at) if at else made


def endpoint_as_root(host: Host, settings: Settings, *, at: str = "") -> Endpoint:
    """Return how to reach the installer and the final system of a host: as root, at port 22.

    Both have the origin's host keys, so what is known of the origin vouches for them, also under the origin's port.

    Args:
        host: the host.
        settings: as for endpoint_for.
        at: as for endpoint_for.

    Raises:
        ConfigError: see endpoint_for.

    """
    made = endpoint_for(as_root(host), settings)
    names = (*endpoint_for(host, settings).names_in_known_hosts(), *made.names_in_known_hosts())
    made = dataclasses.replace(made, known_as=tuple(dict.fromkeys(names)))
    return _moved(made, at) if at else made


def _moved(endpoint: Endpoint, address: str) -> Endpoint:
    """Return the endpoint at another address, where the same host keys are believed."""
    return dataclasses.replace(
        endpoint,
        address=address,
        address_family="any",
        known_as=endpoint.names_in_known_hosts(),
        certified_as=endpoint.certified_as or endpoint.address,
    )


def _configured(host: str, asked_as: str, configured: SshSettings, pins: Path) -> Endpoint:
    """Return the endpoint that the ssh config describes, without its proxy."""
    return Endpoint(
        host=host,
        address=configured.address,
        pins=pins,
        port=configured.port,
        user=configured.user,
        asked_as=asked_as,
        identity_files=configured.identity_files,
        certificate_files=configured.certificate_files,
        agent=configured.agent,
        identities_only=configured.identities_only,
        accepted_algorithms=configured.accepted_algorithms,
        known_hosts=configured.known_hosts,
        revoked_keys=configured.revoked_keys,
        host_key_algorithms=configured.host_key_algorithms,
        address_family=configured.address_family,
        bind_address=configured.bind_address,
        host_key_alias=configured.host_key_alias,
    )


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
    made = endpoint_as_root(host, settings, at=address)
    return dataclasses.replace(made, port=port, proxy=None, bind_address=None)


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
        return Jump(_hop(last, ",".join(before), config, pins, jumps_left))
    if configured.proxy_command:
        # As OpenSSH runs it: in the user's shell, which the command replaces.
        return ProxyCommand((os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {configured.proxy_command}"))
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
    port = int(match["port"]) if match["port"] else None
    configured = look_up(config, name, user=match["user"], port=port)
    if before:
        configured = dataclasses.replace(configured, proxy_jump=before)
    return dataclasses.replace(
        _configured(name, name, configured, pins), proxy=_proxy(configured, config, pins, jumps_left - 1)
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
