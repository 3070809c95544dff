"""Holds together what the plan says of a network and the files that restore-network.sh writes for it."""

import json

from holdfast.facts.links import NetworkFacts
from holdfast.facts.network import Network
from holdfast.facts.way_back import parse_way_back
from holdfast.plan.way_out.judging import judge_way_out
from holdfast.plan.way_out.known import known_of
from holdfast.plan.way_out.made import made_of
from holdfast.plan.way_out.row import Verdict
from tests.net.recorded import Answers
from tests.unit.cases import host, way_back_answer

WITHOUT_NETDEV = ("card", "dsa", "loopback")


def network_facts(said: Answers, **more: str) -> NetworkFacts:
    """Return the facts of an origin, as preflight gets them."""
    keys = ("addresses", "routes_v4", "routes_v6")
    told = dict(zip(keys, map(json.dumps, said), strict=True))
    return parse_way_back(way_back_answer(**(told | more)), "cottage").network


def hold_together(said: Answers, files: dict[str, str], complaints: str) -> None:
    """See that the plan promises just what is written, and has a row for each link that cannot be made.

    Args:
        said: what `ip` said in the origin.
        files: what restore-network.sh wrote, by name.
        complaints: its standard error.

    """
    known = known_of(network_facts(said), Network())
    made = made_of(known)
    lines = [line for text in files.values() for line in text.splitlines()]
    promised = [address for link in made.values() for address in link.addresses]
    assert sorted(promised) == sorted(line.removeprefix("Address=") for line in lines if line.startswith("Address="))
    gateways = {route.gateway for link in made.values() for route in link.routes if route.gateway}
    written = {line.partition("=")[2].partition(" ")[0] for line in lines if line.startswith(("Gateway=", "MultiPath"))}
    assert gateways == written
    for name, link in made.items():
        if link.kind not in WITHOUT_NETDEV and (link.addresses or link.routes):
            assert f"Kind={link.kind}\n" in files[f"09-{name}.netdev"]
        of_link = files.get(f"09-{name}.network") or _of_card(link.given_to or name, said, files)
        promises = [f"Address={address}" for address in link.addresses]
        assert set(promises) <= set(of_link.splitlines())
        if promises and not link.given_to:
            of_all = of_link.partition("[Link]\n")[2].partition("[Network]")[0].splitlines()
            sizes = [line for line in of_all if line.startswith("MTU")]
            assert sizes == ([f"MTUBytes={link.mtu}"] if link.mtu else [])
    rows = {row.subject: row for row in judge_way_out(network_facts(said), Network(), host())}
    cannot = {line.split("cannot make ")[1].split(" (")[0] for line in complaints.splitlines()}
    assert cannot == {name for name, row in rows.items() if row.then.startswith("lost: ")}
    assert all(rows[name].verdict is not Verdict.FINE for name in cannot)


def _of_card(name: str, said: Answers, files: dict[str, str]) -> str:
    """Return the file that matches a card, or nothing if that is not written."""
    for link in said[0]:
        if link["ifname"] == name:
            slave = link.get("linkinfo", {}).get("info_slave_data", {})
            mac = str(link.get("permaddr") or slave.get("perm_hwaddr") or link.get("address"))
            return files.get(f"10-{mac.replace(':', '')}.network", files.get(f"09-{name}.network", ""))
    return ""
