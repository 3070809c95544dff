"""Whether a node can move: each finding, what would happen, and whether the install is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.facts.identity import Identity
from holdfast.facts.tailscale import Tailscale
from holdfast.inventory.host import Way
from holdfast.plan.markdown import to_markdown
from holdfast.plan.verdict import Finding, judge
from tests.unit.cases import facts, host, plan, status

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
FINE = Tailscale(
    installed=True,
    running=True,
    backend_state="Running",
    state_file="/var/lib/tailscale/tailscaled.state",
    state_kind="plain",
    identity=Identity(node_key="nodekey:" + "ab" * 32, node_id="n1", addresses=("100.64.0.1",)),
)


def found(way: Way = Way.TAILSCALE, **changed: Any) -> tuple[Finding, ...]:
    return judge(FINE.model_copy(update=changed), "cottage", way, NOW)


def test_node_that_can_move() -> None:
    assert found() == ()
    assert found(Way.STANDARD) == ()


@pytest.mark.parametrize(
    ("changed", "name", "parts", "lost"),
    [
        ({"state_store": "memory"}, "in memory, ephemeral", ["in memory", "logs out", "--state="], "both"),
        ({"state_store": "kubernetes"}, "kept elsewhere", ["Kubernetes secret", "log in again"], "both"),
        ({"state_store": "aws"}, "kept elsewhere", ["AWS"], "both"),
        ({"state_store": "vault"}, "kept elsewhere", ["a store named vault"], "both"),
        ({"state_file": "/opt/tailscaled.state"}, "kept elsewhere", ["/opt/tailscaled.state", "Move it"], "both"),
        ({"state_kind": "sealed"}, "TPM-sealed", ["could not open it", "--encrypt-state=false"], "both"),
        ({"state_kind": "missing"}, "state missing", ["nothing to carry"], "both"),
        ({"state_kind": "unreadable"}, "state unreadable", ["is unreadable"], "both"),
        ({"attested": True}, "bound to hardware", ["keeps its identity", "policy", "--hardware-attestation"], "no"),
        ({"expired": True, "identity": None}, "expired", ["expired", "--force-reauth"], "both"),
        ({"key_expiry": NOW}, "expired", ["expired at 2026-06-01 12:00 UTC"], "both"),
        ({"key_expiry": NOW + timedelta(minutes=60)}, "expiring", ["within the hour", "Renew it"], "tailscale"),
        ({"key_expiry": NOW + timedelta(minutes=61)}, "expiring", ["at 2026-06-01 13:01 UTC", "disable"], "no"),
        ({"lock": "signed"}, "under tailnet lock", ["is signed", "moves with its signature", "Encrypt"], "no"),
        ({"lock": "unsigned"}, "locked out", ["not signed", "nor does the operator", "lock sign"], "tailscale"),
    ],
)
def test_what_a_node_shows(changed: dict[str, Any], name: str, parts: list[str], lost: str) -> None:
    (finding,) = found(**changed)
    assert finding.name == name
    for part in parts:
        assert part in finding.in_one_line()
    assert finding.lost is (lost != "no")
    assert [other.lost for other in found(Way.STANDARD, **changed)] == [lost == "both"]


def test_what_would_lose_the_node_comes_first() -> None:
    both = found(attested=True, lock="unsigned", key_expiry=NOW + timedelta(days=3))
    assert [finding.name for finding in both] == ["locked out", "bound to hardware", "expiring"]


def test_node_that_is_not_up_is_not_called_locked_out() -> None:
    assert found(lock="unsigned", identity=None) == ()


def test_plan_tells_it() -> None:
    text = to_markdown(plan(facts("debian-12"), now=NOW))
    assert "The node shows nothing that prevents its move. Whether the control server treats it as ephemeral" in text
    assert "worth nothing" not in text
    away = to_markdown(plan(facts("debian-12"), host(way="standard"), now=NOW))
    assert "it may remove the node while the installer runs" in away
    expiring = status(KeyExpiry="2026-06-10T12:00:00Z")
    made = plan(facts("debian-12", tailscale_attested="yes", tailscale_status=expiring), now=NOW)
    assert [finding.name for finding in made.verdict] == ["bound to hardware", "expiring"]
    text = to_markdown(made).replace("\\", "")
    assert "| the node is | seen | what happens | what you can do |" in text
    assert "2026-06-10 12:00 UTC" in text
    assert "(refused)" not in text
    locked = to_markdown(plan(facts("debian-12", tailscale_lock='"Enabled":true'), now=NOW)).replace("\\", "")
    assert "locked out (refused)" in locked


def test_node_that_is_given_up_is_not_judged() -> None:
    given_up = plan(facts("debian-12", tailscale_attested="yes"), host(keep={"tailscale_state": False}), now=NOW)
    assert given_up.verdict == ()
    assert "The identity" not in to_markdown(given_up)
