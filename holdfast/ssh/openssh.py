"""An OpenSSH config for the way that a link took, for `nix copy`: the same login, keys, proxy and jump hosts."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.ssh.endpoint import Jump, ProxyCommand, Socks5
from holdfast.ssh.link import Link
from holdfast.ssh.publickey import in_words, is_certificate

# A cut link is noticed after half a minute; `nix copy` learns of it only when ssh ends.
ALIVE_EVERY_S: Final = 10
ALIVE_MISSED: Final = 3


def write_ssh_config(link: Link, into: Path) -> Path:
    """Write the config, and beside it the public halves of the keys and a known_hosts with the keys that answered.

    Use it as `NIX_SSHOPTS="-F PATH"`, with the inventory's name as the host. It names only what let this link in: so no
    other key is offered, and no user's config read.

    Args:
        link: an open link to the target.
        into: an existing folder; `ssh_config`, `known_hosts` and `key-…` in it are replaced.

    Returns:
        The path of the config.

    """
    hops = list(_hops(link))
    # The jump hosts have names that no inventory can have.
    names = [link.endpoint.host, *(f"jump_{number}" for number in range(1, len(hops)))]
    known_hosts = into / "known_hosts"
    known_hosts.write_text("".join(f"{name} {hop.host_key}\n" for name, hop in zip(names, hops, strict=True)))
    config = into / "ssh_config"
    lines = [
        line
        for name, hop, via in zip(names, hops, [*names[1:], ""], strict=True)
        for line in (*_lines(name, hop, via, known_hosts), *_key_lines(name, hop, into))
    ]
    config.write_text("".join(f"{line}\n" for line in lines))
    config.chmod(0o600)
    return config


def _hops(link: Link | None) -> Iterator[Link]:
    while link is not None:
        yield link
        link = link.hop


def _lines(name: str, hop: Link, via: str, known_hosts: Path) -> Iterator[str]:
    endpoint = hop.endpoint
    yield from (
        f"Host {name}",
        # A percent sign begins a token there, and in front of the interface of a link-local address.
        f"  HostName {endpoint.address.replace('%', '%%')}",
        f"  Port {endpoint.port}",
        f"  User {endpoint.user}",
        f"  HostKeyAlias {name}",
        "  StrictHostKeyChecking yes",
        f"  HostKeyAlgorithms {_algorithms(hop.host_key.kind)}",
        f'  UserKnownHostsFile "{_quoted(known_hosts)}"',
        "  GlobalKnownHostsFile /dev/null",
        "  UpdateHostKeys no",
        "  BatchMode yes",
        f"  ServerAliveInterval {ALIVE_EVERY_S}",
        f"  ServerAliveCountMax {ALIVE_MISSED}",
        "  ConnectTimeout 30",
        f"  AddressFamily {endpoint.address_family}",
    )
    if endpoint.bind_address is not None:
        yield f"  BindAddress {endpoint.bind_address}"
    match endpoint.proxy:
        case ProxyCommand(argv=argv):
            # `%n` is the name that OpenSSH is asked for, which is the inventory's here.
            name_asked = endpoint.asked_as or endpoint.address
            named = [re.sub(r"%(.)", lambda at: name_asked if at[1] == "n" else at[0], part) for part in argv]
            yield f"  ProxyCommand {shlex.join(named)}"
        case Socks5(address=address, port=port):
            root = Path(__file__).parents[2]
            python = ["env", f"PYTHONPATH={root}", sys.executable, "-m", "holdfast.ssh.wire"]
            yield f"  ProxyCommand {shlex.join([*python, address, str(port), '%h', '%p'])}"
        case Jump():
            yield f"  ProxyJump {via}"


def _algorithms(kind: str) -> str:
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


def _key_lines(name: str, hop: Link, into: Path) -> Iterator[str]:
    taken = hop.logged_in.offers
    yield "  IdentitiesOnly yes"
    agent = next((offer.agent for offer in taken if offer.agent is not None), None)
    yield f'  IdentityAgent "{_quoted(agent)}"' if agent is not None else "  IdentityAgent none"
    if not taken:
        # The server asked for no key.
        yield "  IdentityFile none"
    for number, offer in enumerate(taken):
        public = into / f"key-{name}-{number}.pub"
        public.write_text(f"{offer.key}\n")
        yield f'  IdentityFile "{_quoted(offer.file or public)}"'
        if is_certificate(offer.blob):
            certificate = into / f"key-{name}-{number}-cert.pub"
            certificate.write_text(f"{in_words(offer.blob)}\n")
            yield f'  CertificateFile "{_quoted(certificate)}"'


def _quoted(path: Path) -> str:
    """Return a path as it stands in double quotes: in an ssh config a percent sign begins a token."""
    return str(path.absolute()).replace("%", "%%")
