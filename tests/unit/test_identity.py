"""What `tailscale status --json` says about a node, and about the path to it."""

import json
import sys
from datetime import UTC, datetime

import pytest

from holdfast.base.errors import NotTrusted
from holdfast.facts.identity import Identity, parse_status, require_same_node, same_node
from holdfast.tailnet.operator import path_to
from tests.unit.cases import NODE_KEY, status

NODE = Identity(node_key=NODE_KEY, node_id="1", addresses=("100.64.0.1", "fd7a:115c:a1e0::1"))


def test_self() -> None:
    seen = parse_status(status(KeyExpiry="2026-08-30T12:00:00.123456789Z", Expired=False))
    assert seen.identity is not None
    assert same_node(seen.identity, NODE)
    assert seen.key_expiry == datetime(2026, 8, 30, 12, 0, 0, 123456, tzinfo=UTC)
    assert (seen.backend_state, seen.expired, seen.host_name) == ("Running", False, "cottage")


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"dns_name": "renamed.example"}, True),
        ({"addresses": ("fd7a:115c:a1e0::1", "100.64.0.1")}, True),
        ({"addresses": ("100.64.0.2", "fd7a:115c:a1e0::1")}, False),
        ({"node_key": "nodekey:" + "cd" * 32}, False),
        ({"node_id": "2"}, False),
    ],
)
def test_same_node(changed: dict[str, object], same: bool) -> None:
    assert same_node(NODE, NODE.model_copy(update=changed)) is same


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_no_status(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_status(text)


def test_unexpected_shapes_are_absent() -> None:
    seen = parse_status(json.dumps({"Self": {"PublicKey": 3, "KeyExpiry": "soon"}, "Peer": [1], "BackendState": {}}))
    assert (seen.identity, seen.key_expiry, seen.peers, seen.backend_state) == (None, None, (), "")
    node = parse_status(
        status(TailscaleIPs=["100.64.0.1", "x", 7, "fe80::1%\x1b[1m"], DNSName="a\x1b[1m", ID=None)
    ).identity
    assert node is not None
    assert node.node_id == ""
    assert node.addresses == ("100.64.0.1",)
    assert node.dns_name == "a\\x1b[1m"
    assert parse_status(status(KeyExpiry="0001-01-01T00:00:00Z")).key_expiry is None


@pytest.mark.parametrize(
    ("peer", "path"),
    [
        ({"CurAddr": "192.0.2.1:41641", "Relay": "lab"}, "direct"),
        ({"CurAddr": "", "Relay": "lab"}, "relay"),
        ({"CurAddr": "", "Relay": ""}, "unknown"),
        ({"PublicKey": "nodekey:" + "cd" * 32, "CurAddr": "192.0.2.1:1"}, "unknown"),
        (None, "unknown"),
    ],
)
def test_path_as_the_operator_sees_it(
    monkeypatch: pytest.MonkeyPatch, peer: dict[str, object] | None, path: str
) -> None:
    peers = {"p": json.loads(status())["Self"] | peer} if peer else None
    said = json.dumps({"BackendState": "Running", "Peer": peers})
    monkeypatch.setenv("HOLDFAST_TAILSCALE", json.dumps([sys.executable, "-c", f"print({said!r})"]))
    assert path_to(NODE) == path


def test_path_is_unknown_when_nobody_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TAILSCALE", '["/absent/tailscale"]')
    assert path_to(NODE) == "unknown"
    assert path_to(None) == "unknown"


def test_another_node_is_not_trusted() -> None:
    other = NODE.model_copy(update={"node_key": "nodekey:" + "f" * 64})
    with pytest.raises(NotTrusted, match=r"cottage is another node now: nodekey:ffff.* Hint: Look\."):
        require_same_node("cottage", NODE, other, hint="Look.")
    require_same_node("cottage", NODE, NODE, hint="Look.")
    require_same_node("cottage", None, NODE, hint="Look.")
