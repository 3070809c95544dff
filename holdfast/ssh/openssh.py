"""An OpenSSH config for the same target with the same host keys, for `nix copy`."""

import shlex
import sys
from pathlib import Path
from typing import Final

from holdfast.base.errors import NotTrusted
from holdfast.ssh.endpoint import Endpoint, Jump, ProxyCommand, Socks5
from holdfast.ssh.hostkeys import trust_of

# A cut link is noticed after half a minute; `nix copy` learns of it only when ssh ends.
ALIVE_EVERY_S: Final = 10
ALIVE_MISSED: Final = 3


def write_ssh_config(endpoint: Endpoint, into: Path) -> Path:
    """Write the config, and beside it a known_hosts with exactly the keys that are believed.

    Use it as `NIX_SSHOPTS="-F PATH"`, with the inventory's name as the host.

    Args:
        endpoint: the target; its host key must be known already.
        into: an existing folder; `ssh_config` and `known_hosts` in it are replaced.

    Returns:
        The path of the config.

    Raises:
        NotTrusted: no host key is known yet.
        ConfigError: see hostkeys.trust_of.

    """
    trust = trust_of(endpoint)
    if not trust.expected:
        raise NotTrusted(
            f"No host key of {endpoint} is known yet.",
            hint="Run the preflight first, or set host_key in the inventory.",
        )
    keys = [f"{endpoint.host} {item.key}" for item in trust.expected]
    keys += [f"@revoked {endpoint.host} {item.key}" for item in trust.revoked]
    known_hosts = into / "known_hosts"
    known_hosts.write_text("".join(f"{line}\n" for line in keys))
    config = into / "ssh_config"
    config.write_text("".join(f"{line}\n" for line in _lines(endpoint, known_hosts)))
    config.chmod(0o600)
    return config


def _lines(endpoint: Endpoint, known_hosts: Path) -> list[str]:
    lines = [
        f"Host {endpoint.host}",
        f"  HostName {endpoint.address}",
        f"  Port {endpoint.port}",
        f"  User {endpoint.user}",
        f"  HostKeyAlias {endpoint.host}",
        "  StrictHostKeyChecking yes",
        f'  UserKnownHostsFile "{known_hosts.absolute()}"',
        "  GlobalKnownHostsFile /dev/null",
        "  UpdateHostKeys no",
        "  BatchMode yes",
        f"  ServerAliveInterval {ALIVE_EVERY_S}",
        f"  ServerAliveCountMax {ALIVE_MISSED}",
        "  ConnectTimeout 30",
    ]
    lines += [f'  IdentityFile "{file.absolute()}"' for file in endpoint.identity_files]
    match endpoint.proxy:
        case ProxyCommand(argv=argv):
            lines.append(f"  ProxyCommand {shlex.join(argv)}")
        case Socks5(address=address, port=port):
            root = Path(__file__).parents[2]
            python = ["env", f"PYTHONPATH={root}", sys.executable, "-m", "holdfast.ssh.wire"]
            relay = [*python, address, str(port), "%h", "%p"]
            lines.append(f"  ProxyCommand {shlex.join(relay)}")
        case Jump(spec=spec):
            lines.append(f"  ProxyJump {spec}")
            if endpoint.ssh_config is not None:
                # It defines the names of jump hosts.
                lines += ["Match all", f'  Include "{endpoint.ssh_config.absolute()}"']
    return lines
