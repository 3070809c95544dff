"""A host name that changes the node's name on its tailnet is warned of."""

from typing import Any

import pytest

from tests.unit.cases import host, status
from tests.unit.configured import check, seen


def named(dns_name: str, host_name: str) -> str:
    return status(DNSName=dns_name, HostName=host_name)


@pytest.mark.parametrize(
    ("changed", "preferences", "dns_name", "reported", "becomes"),
    [
        ({"host_name": "cottage"}, "", "debian.tail.example.", "debian", "cottage"),
        ({"host_name": "Cottage_2"}, "", "debian.tail.example.", "debian", "cottage-2"),
        ({"host_name": "cottage"}, "", "debian-1.tail.example.", "debian", "cottage"),
        (
            {"host_name": "x", "tailscale_set_flags": ["--hostname=barn"]},
            "",
            "cottage.tail.example.",
            "cottage",
            "barn",
        ),
        ({"host_name": "x", "tailscale_set_flags": ["--hostname", "barn"]}, "", "x.tail.example.", "x", "barn"),
        ({"host_name": "x"}, '"Hostname":"barn"\n', "cottage.tail.example.", "cottage", "barn"),
        (
            {"host_name": "x", "tailscale_set_flags": ["--hostname="]},
            '"Hostname":"cottage"\n',
            "cottage.tail.example.",
            "cottage",
            "x",
        ),
    ],
)
def test_name_will_change(
    changed: dict[str, Any], preferences: str, dns_name: str, reported: str, becomes: str
) -> None:
    facts = {"tailscale_prefs": preferences, "tailscale_status": named(dns_name, reported)}
    (said,) = check(seen(**changed), host(), said=facts)
    assert f"{dns_name.split('.')[0]} becomes {becomes}" in said
    assert "Holdfast reaches it by its address" in said
    assert check(seen(**changed), host(keep={"tailscale_state": False}), said=facts) == ()


@pytest.mark.parametrize(
    ("changed", "preferences", "dns_name", "reported"),
    [
        ({"host_name": "cottage"}, "", "cottage.tail.example.", "cottage"),
        ({"host_name": "Cottage"}, "", "cottage.tail.example.", "cottage"),
        ({"host_name": "cottage"}, "", "cottage-1.tail.example.", "cottage"),
        ({"host_name": ""}, "", "cottage.tail.example.", "cottage"),
        ({"host_name": "x"}, '"Hostname":"cottage"\n', "cottage.tail.example.", "cottage"),
        ({"host_name": "x", "tailscale_set_flags": ["--hostname=cottage"]}, "", "cottage.tail.example.", "cottage"),
        ({"host_name": "x"}, "", "", "cottage"),
        # Somebody gave it another name at the control server: that stays.
        ({"host_name": "debian"}, "", "cottage.tail.example.", "debian"),
    ],
)
def test_name_stays(changed: dict[str, Any], preferences: str, dns_name: str, reported: str) -> None:
    facts = {"tailscale_prefs": preferences, "tailscale_status": named(dns_name, reported)}
    assert check(seen(**changed), host(), said=facts) == ()
