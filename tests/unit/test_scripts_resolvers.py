"""The name servers that the installer is given: nix/scripts/parts/resolvers.sh, on origins in folders."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("tr", "cat", "sed", "head", "grep")
OWN = "2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\n2: eth0    inet6 2001:db8::5/64 scope global\n"
NO_STUB = "run/NetworkManager/no-stub-resolv.conf"
LOCAL = {"etc/resolv.conf": "nameserver 127.0.0.1\n"}


@pytest.mark.parametrize(
    ("files", "servers"),
    [
        ({"etc/resolv.conf": "nameserver 192.0.2.1\nnameserver 192.0.2.1\n"}, ["192.0.2.1"]),
        # systemd-resolved, and NetworkManager with dnsmasq or with it.
        (
            {"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": "nameserver 192.0.2.2\n"},
            ["192.0.2.2"],
        ),
        (LOCAL | {NO_STUB: "# NM\nnameserver 192.0.2.3\nnameserver 2001:db8::53\n"}, ["192.0.2.3", "2001:db8::53"]),
        ({"etc/resolv.conf": "nameserver 100.100.100.100\n", NO_STUB: "nameserver 192.0.2.3\n"}, ["192.0.2.3"]),
        (LOCAL | {"run/NetworkManager/resolv.conf": "nameserver 192.0.2.4"}, ["192.0.2.4"]),
        # resolvconf of Debian, openresolv old and new, SUSE's netconfig.
        (LOCAL | {"run/resolvconf/interface/eth0.dhclient": "nameserver 192.0.2.5\n"}, ["192.0.2.5"]),
        (LOCAL | {"run/resolvconf/interfaces/eth0": "domain x\nnameserver 192.0.2.6\n"}, ["192.0.2.6"]),
        (LOCAL | {"run/resolvconf/keys/eth0.dhcp": "nameserver 192.0.2.7\n"}, ["192.0.2.7"]),
        (LOCAL | {"run/netconfig/resolv.conf": "nameserver 192.0.2.8\n"}, ["192.0.2.8"]),
        # dnsmasq: not what is for a domain, or on another port.
        (
            LOCAL
            | {
                "etc/dnsmasq.conf": "# server=192.0.2.66\nserver=/corp/192.0.2.67\nserver=192.0.2.68#5353\n"
                "server=192.0.2.9\nserver=2001:db8::9@eth0",
            },
            ["192.0.2.9", "2001:db8::9"],
        ),
        (
            LOCAL
            | {
                "etc/dnsmasq.d/up.conf": "resolv-file=/etc/resolv.up\n",
                "etc/resolv.up": "nameserver 192.0.2.10\n",
            },
            ["192.0.2.10"],
        ),
        (LOCAL | {"run/dnsmasq/resolv.conf": "nameserver 192.0.2.11\n"}, ["192.0.2.11"]),
        # A dnsmasq for virtual machines is nobody's business where the system asks others.
        ({"etc/resolv.conf": "nameserver 192.0.2.1\n", "etc/dnsmasq.conf": "server=192.0.2.66\n"}, ["192.0.2.1"]),
        # The machine itself is the name server: in the installer nobody answers there.
        ({"etc/resolv.conf": "nameserver 10.0.0.5\nnameserver 2001:db8::5\nnameserver 192.0.2.1\n"}, ["192.0.2.1"]),
        (
            {"etc/resolv.conf": "nameserver 10.0.0.5\n", "etc/pihole/dnsmasq.conf": "server=192.0.2.12\n"},
            ["192.0.2.12"],
        ),
        (
            {"etc/resolv.conf": "nameserver ::1\nnameserver 0.0.0.0\nnameserver $(reboot)\nnameserver x\nnameserver\n"},
            [],
        ),
        ({}, []),
    ],
)
def test_name_servers(tmp_path: Path, userland: Userland, files: dict[str, str], servers: list[str]) -> None:
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/ip").write_text(f"#!/bin/sh\nprintf '%s' '{OWN}'\n")
    (tmp_path / "here/ip").chmod(0o755)
    done = subprocess.run(
        [*userland.shell, "-euf", "-s"],
        input=f"root={tmp_path}/root here={tmp_path}/here\n{script('parts/resolvers.sh')}\nresolvers\n",
        env={"PATH": userland.path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "".join(f"nameserver {server}\n" for server in servers)
    assert done.stderr == ""
