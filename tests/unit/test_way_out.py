"""The plan's section *The way out*: from the answers of `ip` and /sys to the refusal, on the fake machine."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.markdown import Markdown

from holdfast.base.errors import TargetRefused
from holdfast.facts.network import Network, parse_network
from holdfast.facts.way_back import parse_way_back
from holdfast.inventory.host import Way
from holdfast.plan.markdown import to_markdown
from holdfast.plan.plan import Plan
from holdfast.plan.way_out.judging import check_way_out, judge_way_out, warned_of
from holdfast.plan.way_out.row import Verdict, WayOutRow
from tasks.preflight import preflight
from tests.log import Remembered
from tests.net.promised import network_facts
from tests.net.recorded import Answers, recorded
from tests.unit.cases import facts, host, plan, way_back_answer
from tests.unit.hostile import mixed, quick, safe, safe_markdown, strings_of, values
from tests.unit.server import body
from tests.unit.target import FakeMachine
from tests.unit.test_scripts_restore_network import MAC, address, link
from tests.unit.test_way_out_model import GATEWAY, MORE, STATIC, way

LOST, UNPROVED, FINE = Verdict.LOST, Verdict.UNPROVED, Verdict.FINE
LEASED = [address("192.0.2.9", dynamic=True)]
CARD = f"1 - pci e1000e - {MAC} 1500 -"
BRIDGE = f"br0 1 bridge - - - {MAC} 1500 -"
WIFI = f"1 wlan pci iwlwifi - {MAC} 1500 -"


def rows_of(said: Answers, way_: Way = Way.TAILSCALE, **more: str) -> dict[str, WayOutRow]:
    told = {"resolvers": "nameserver 192.0.2.53\n", **more}
    return {row.subject: row for row in judge_way_out(network_facts(said, **told), Network(), host(way=way_))}


def verdicts(rows: dict[str, WayOutRow]) -> dict[str, Verdict]:
    return {name: row.verdict for name, row in rows.items() if name != "DNS"}


def over(name: str, **more: Any) -> Answers:
    """Return a network whose only way out is a card of this name."""
    return [[link(name, addr_info=STATIC, **more)], [way(name)], []]


def leaves_by(*names: str) -> str:
    return "".join(f"9.9.9.9 via 192.0.2.1 dev {name} src 192.0.2.9 uid 0\n    cache\n" for name in names)


TWO = [[link("eth0", addr_info=STATIC), link("wlan0", addr_info=LEASED)], [way("eth0"), way("wlan0", metric=600)], []]


@pytest.mark.parametrize(
    ("said", "cards", "then"),
    [
        (over("wlan0"), f"wlan0 {WIFI}\n", "the installer joins no Wi-Fi"),
        (over("wlp3s0"), "", "the installer joins no Wi-Fi"),
        (over("eth0"), f"eth0 {WIFI}\n", "the installer joins no Wi-Fi"),
        (over("wwan0"), f"wwan0 519 wwan usb qmi_wwan - {MAC} 1500 -\n", "dials with no modem"),
        (over("usb0"), f"usb0 1 - usb cdc_mbim - {MAC} 1500 -\n", "dials with no modem"),
        (MORE["PPPoE"], "", "makes no PPP"),
        (MORE["WireGuard"], "", "neither the program nor the key"),
        (MORE["tunnel without details"], "", "neither the program nor the key"),
        (MORE["Open vSwitch with a MAC address of its own"], "", "does not make this kind of link (Open vSwitch)"),
        (MORE["InfiniBand"], "", "does not make this kind of link (InfiniBand)"),
        (MORE["bond of nothing"], "", "no card is a port of it"),
        (MORE["VLAN on a tunnel"], "", "what it lies on (tap0) is not there"),
        (
            [
                [
                    link("wlan0", master="br0"),
                    link("br0", kind="bridge", addr_info=STATIC),
                ],
                [way("br0")],
                [],
            ],
            f"wlan0 {WIFI}\n",
            "no card is a port of it",
        ),
        (
            [[link("wlan0"), link("v", kind="vlan", data={"id": 4}, link="wlan0", addr_info=STATIC)], [way("v")], []],
            f"wlan0 {WIFI}\n",
            "what it lies on (wlan0) is not there",
        ),
        # Neither a card without a carrier nor Tailscale's own is a way out.
        (
            [TWO[0], [way("eth0", flags=["linkdown"]), way("wlan0", metric=600)], []],
            f"wlan0 {WIFI}\neth0 {CARD}\n",
            "the installer joins no Wi-Fi",
        ),
        (
            [
                [*over("wlan0")[0], link("ts0", kind="tun", link_type="none", addr_info=[address("100.64.0.9", 32)])],
                [way("wlan0"), way("ts0")],
                [],
            ],
            f"wlan0 {WIFI}\n",
            "the installer joins no Wi-Fi",
        ),
        # IPv6 counts as well.
        (
            [[link("wlan0", addr_info=[address("2001:db8::7", 64)])], [], [way("wlan0", gateway="fe80::1")]],
            f"wlan0 {WIFI}\n",
            "the installer joins no Wi-Fi",
        ),
    ],
)
@pytest.mark.parametrize("way_", Way)
def test_the_only_way_out_is_one_that_the_installer_cannot_make(
    said: Answers, cards: str, then: str, way_: Way
) -> None:
    rows = tuple(rows_of(said, way_, links=cards).values())
    lost = [row for row in rows if row.verdict is LOST]
    assert [then in row.then for row in lost] == [True]
    with pytest.raises(TargetRefused) as refused:
        check_way_out(rows, host(way=way_))
    assert refused.value.message.startswith("the installer would not have the way out of cottage: ")
    assert then in refused.value.message
    assert 'add "no-way-out" to allow' in str(refused.value.hint)
    check_way_out(rows, host(way=way_, allow=["no-way-out"]))
    assert any(then in warning for warning in warned_of(rows))


WIFI_BESIDE = f"wlan0 {WIFI}\neth0 {CARD}\n"


@pytest.mark.parametrize(
    ("said", "told", "expected"),
    [
        (TWO, {"links": WIFI_BESIDE}, {"wlan0": UNPROVED, "eth0": FINE}),
        (TWO, {"links": WIFI_BESIDE, "ways_out": leaves_by("eth0")}, {"wlan0": UNPROVED, "eth0": FINE}),
        # The Wi-Fi is what carries its traffic, and whether the cable leads anywhere is not known.
        (TWO, {"links": WIFI_BESIDE, "ways_out": leaves_by("wlan0")}, {"wlan0": LOST, "eth0": FINE}),
        (
            [TWO[0], [way("eth0", metric=900), way("wlan0", metric=600)], []],
            {"links": WIFI_BESIDE},
            {"wlan0": LOST, "eth0": FINE},
        ),
        (TWO, {"links": WIFI_BESIDE, "ways_out": leaves_by("wlan0", "eth0")}, {"wlan0": UNPROVED, "eth0": FINE}),
        (
            TWO,
            {"links": WIFI_BESIDE, "way_to_operator": "192.0.2.3 dev wlan0 src 192.0.2.9\n"},
            {"wlan0": LOST, "eth0": FINE},
        ),
        (
            TWO,
            {"links": WIFI_BESIDE, "way_to_operator": "100.64.0.3 dev tailscale0 table 52\n"},
            {"wlan0": UNPROVED, "eth0": FINE},
        ),
        # A tunnel lies over another way out, which is there without it.
        (
            [
                [
                    link("eth0", addr_info=STATIC),
                    link("tun0", kind="tun", link_type="none", addr_info=[address("10.8.0.2")]),
                ],
                [way("eth0"), {"dst": "0.0.0.0/1", "gateway": "10.8.0.1", "dev": "tun0"}],
                [],
            ],
            {"ways_out": leaves_by("tun0")},
            {"tun0": UNPROVED, "eth0": FINE},
        ),
        (over("eth0"), {"links": f"eth0 1 - pci r8125 OE {MAC} 1500 -\n"}, {"eth0": UNPROVED}),
        (over("eth0"), {"links": f"eth0 1 - pci e1000e - {MAC} 1500 -\n"}, {"eth0": FINE}),
        (over("eth0"), {"links": f"eth0 1 - usb rndis_host - {MAC} 1500 -\n"}, {"eth0": UNPROVED}),
        (over("eth0"), {"links": f"eth0 1 - usb r8152 - {MAC} 1500 -\n"}, {"eth0": FINE}),
        (MORE["Open vSwitch"], {}, {"vmbr0": UNPROVED}),
        (MORE["team"], {}, {"team0": UNPROVED}),
        (
            over("eth0"),
            {"rules": "0:\tfrom all lookup local\n100:\tfrom 192.0.2.7 lookup 100\n"},
            {"eth0": FINE, "rules": UNPROVED},
        ),
        (over("eth0"), {"rules": "5270:\tfrom all lookup 52\n32766:\tfrom all lookup main\n"}, {"eth0": FINE}),
        ([[link("eth0", addr_info=STATIC)], [], []], {}, {"eth0": FINE, "default route": UNPROVED}),
        (
            [[link("eth0", addr_info=STATIC)], [], []],
            {"ways_out": leaves_by("eth0")},
            {"eth0": FINE, "default route": LOST},
        ),
        (
            [[link("eth0", addr_info=LEASED)], [], []],
            {"ways_out": leaves_by("eth0")},
            {"eth0": FINE, "default route": UNPROVED},
        ),
    ],
)
def test_what_is_warned_of_and_what_is_refused(said: Answers, told: dict[str, str], expected: object) -> None:
    assert verdicts(rows_of(said, Way.TAILSCALE, **told)) == expected


def test_an_operator_who_comes_over_a_tunnel_needs_it_only_in_the_standard_way() -> None:
    wireguard = link("wg0", kind="wireguard", link_type="none", address="", addr_info=[address("10.9.0.2")])
    said = [[link("eth0", addr_info=STATIC), wireguard], [way("eth0"), way("wg0", dst="10.9.1.0/24")], []]
    told = {"ways_out": leaves_by("eth0"), "way_to_operator": "10.9.1.4 via 10.9.0.1 dev wg0 src 10.9.0.2\n"}
    assert rows_of(said, Way.TAILSCALE, **told)["wg0"].verdict is UNPROVED
    assert rows_of(said, Way.STANDARD, **told)["wg0"].verdict is LOST


@pytest.mark.usefixtures("desk", "server", "log")
def test_a_machine_with_wifi_alone_is_refused_by_what_any_ip_says(machine: FakeMachine) -> None:
    machine.changed["origin"] |= {
        "interfaces": "2: wlp3s0    inet 192.168.1.5/24 brd 192.168.1.255 scope global dynamic wlp3s0\n"
        "3: tailscale0    inet 100.64.0.1/32 scope global tailscale0\n",
        "default_route": "default via 192.168.1.1 dev wlp3s0 proto dhcp metric 600 \n",
    }
    with pytest.raises(TargetRefused, match="the installer joins no Wi-Fi") as refused:
        body(preflight)(host())
    assert "Connect it by cable" in str(refused.value.hint)
    assert machine.story == []


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("static", FINE),
        ("gateway on-link", FINE),
        ("gateway behind a link route", FINE),
        ("lease without an end", FINE),
        ("IPv6 only, link-local gateway", FINE),
        ("gateway as peer", LOST),
        ("default route of protocol kernel", LOST),
        ("VLAN", LOST),
        ("VLAN on a bond", LOST),
        ("bridge on a VLAN", LOST),
        ("macvlan", LOST),
        ("bond", UNPROVED),
        ("bridge with a MAC address of its own, and ports of virtual machines", UNPROVED),
    ],
)
def test_a_stock_image_restores_less(name: str, verdict: Verdict) -> None:
    said = recorded()[name]
    out = next(route["dev"] for route in [*said[1], *said[2]] if route["dst"] == "default")
    assert rows_of(said, Way.STANDARD)[out].verdict is verdict
    assert rows_of(said)[out].verdict is FINE


def test_a_row_says_how_it_is_and_how_it_will_be() -> None:
    rows = rows_of(recorded()["small packets on a VLAN on a bond with large ones"])
    assert rows["bond0.40"] == WayOutRow(
        subject="bond0.40",
        now="VLAN 40 on bond0, 192.0.2.7/24, default by 192.0.2.1, MTU 1400",
        then="made anew, 192.0.2.7/24, default by 192.0.2.1, MTU 1400",
        verdict=FINE,
    )
    leased = rows_of(MORE["lease beside a static address"])["eth0"]
    assert leased.now == "card, 192.0.2.7/24, 198.51.100.3/24 (leased), default by 192.0.2.1, 1 other route"
    assert leased.then == "192.0.2.7/24, 1 other route, and what DHCP and router advertisements give"
    assert rows_of(recorded()["containers' bridges, and VLANs of virtual machines"])["other links"].now == "docker0"


@pytest.mark.parametrize(
    ("plain", "given", "said", "then", "verdict"),
    [
        (("127.0.0.53",), "192.0.2.53\n", over("eth0"), "asks 192.0.2.53", FINE),
        (("127.0.0.53",), "", over("eth0"), "asks public name servers: it is given none that it could reach", UNPROVED),
        (("127.0.0.53",), "", MORE["lease"], "asks what DHCP names", FINE),
        ((), "192.0.2.1\n192.0.2.2\n", MORE["lease"], "asks 192.0.2.1, 192.0.2.2, and what DHCP names", FINE),
    ],
)
def test_name_servers(plain: tuple[str, ...], given: str, said: Answers, then: str, verdict: Verdict) -> None:
    told = network_facts(said, resolvers="".join(f"nameserver {line}\n" for line in given.split()))
    [row] = [row for row in judge_way_out(told, Network(resolvers=plain), host()) if row.subject == "DNS"]
    assert (row.then, row.verdict) == (then, verdict)


@pytest.mark.parametrize(
    ("addresses", "routes", "cards", "expected"),
    [
        # Only what facts.sh says: a name tells a Wi-Fi.
        (
            ("wlp3s0 192.168.1.5/24", "tailscale0 100.64.0.1/32"),
            ("default via 192.168.1.1 dev wlp3s0",),
            "",
            {"wlp3s0": LOST},
        ),
        (("eth0 192.168.1.5/24",), ("default via 192.168.1.1 dev eth0 metric 202",), "", {"eth0": FINE}),
        (("eth0 192.168.1.5/24",), ("default via 192.168.1.1 dev eth0",), f"eth0 {WIFI}\n", {"eth0": LOST}),
        (("eth0.5@eth0 192.168.1.5/24",), ("default via 192.168.1.1 dev eth0.5",), "", {"eth0.5": UNPROVED}),
        (
            ("eth0 192.168.1.5/24", "wlan0 192.168.2.5/24"),
            ("default via 192.168.1.1 dev eth0 metric 100", "default via 192.168.2.1 dev wlan0 metric 600"),
            f"eth0 {CARD}\nwlan0 {WIFI}\n",
            {"eth0": FINE, "wlan0": UNPROVED},
        ),
        (("ppp0 203.0.113.5/32",), ("default dev ppp0 scope link",), "ppp0 512 ppp - - - - 1492 -\n", {"ppp0": LOST}),
        (("wg0 10.0.0.2/32",), ("default dev wg0 scope link",), "", {"wg0": LOST}),
        (
            ("br0 192.168.1.5/24",),
            ("default via 192.168.1.1 dev br0",),
            f"{BRIDGE} wlan0\nwlan0 1 wlan pci x - {MAC} 1500 br0\n",
            {"br0": LOST},
        ),
        (
            ("br0 192.168.1.5/24",),
            ("default via 192.168.1.1 dev br0",),
            f"{BRIDGE} eth0\neth0 1 - pci x - {MAC} 1500 br0\n",
            {"br0": UNPROVED},
        ),
    ],
)
def test_an_ip_without_json(
    addresses: tuple[str, ...], routes: tuple[str, ...], cards: str, expected: dict[str, Verdict]
) -> None:
    plain = Network(addresses=addresses, default_routes=routes)
    rows = judge_way_out(network_facts([[], [], []], links=cards), plain, host())
    assert verdicts({row.subject: row for row in rows}) == expected


def test_a_list_that_was_cut_off_loses_nothing_that_is_known_otherwise() -> None:
    whole = json.dumps([link("lo", link_type="loopback"), link("bond0", kind="bond")])
    told = {"addresses": whole[:-60], "routes_v4": json.dumps([way("bond0")])}
    cards = f"bond0 1 bond - - - {MAC} 1500 - eth0\neth0 1 - pci x - {MAC} 1500 bond0\n"
    network = network_facts([[], [], []], **told, links=cards)
    assert [each.name for each in network.links] == ["lo"]
    rows = judge_way_out(network, Network(addresses=("bond0 192.0.2.7/24",)), host())
    assert LOST not in {row.verdict for row in rows}


def test_the_rows_are_bounded_and_the_worst_come_first() -> None:
    many = [[link(f"tun{n}", kind="tun", link_type="none", addr_info=STATIC) for n in range(90)], [], []]
    many[1] = [way(f"tun{n}") for n in range(90)]
    rows = judge_way_out(network_facts(many), Network(), host())
    assert len(rows) == 17
    assert rows[-1].now == "75 more links"
    many[0].append(link("eth0", addr_info=STATIC))
    many[1].append(way("eth0"))
    assert judge_way_out(network_facts(many), Network(), host())[0].verdict is UNPROVED


def preflight_of(**inventory: Any) -> Plan:
    made = body(preflight)(host(**inventory))
    assert isinstance(made, Plan)
    return made


@pytest.mark.usefixtures("desk", "server", "log")
@pytest.mark.parametrize("rehearsal", [False, True])
def test_preflight_refuses_it_and_nothing_is_changed(machine: FakeMachine, rehearsal: bool) -> None:
    machine.way_back |= {"links": f"wlp3s0 {WIFI}\n"} | told_of(over("wlp3s0"))
    with pytest.raises(TargetRefused, match=r"wlp3s0 \(Wi-Fi \(iwlwifi\), 192\.0\.2\.7/24.*: lost: "):
        body(preflight)(host(), rehearsal=rehearsal)
    assert machine.story == []


@pytest.mark.usefixtures("desk", "server")
def test_what_is_allowed_is_in_the_plan_and_warned_of(machine: FakeMachine, log: Remembered) -> None:
    machine.way_back |= told_of(over("wlp3s0"))
    made = preflight_of(allow=["no-way-out"])
    assert made.way_out[0].verdict is LOST
    assert any(warning.startswith("wlp3s0 (Wi-Fi, ") for warning in log.warned)
    assert made.model_copy(update={"way_out": ()}).digest == made.digest


@pytest.mark.usefixtures("desk", "server", "machine")
def test_a_plain_machine_is_told_so(log: Remembered) -> None:
    made = preflight_of()
    assert {row.verdict for row in made.way_out} == {FINE}
    assert not any(row.subject in warning for row in made.way_out for warning in log.warned)
    assert "## The way out" in to_markdown(made)


def told_of(said: Answers) -> dict[str, str]:
    return dict(zip(("addresses", "routes_v4", "routes_v6"), map(json.dumps, said), strict=True))


def test_the_section_can_be_read_in_100_columns() -> None:
    rows = tuple(
        row
        for name in ("bridge on a VLAN on a bond", "small packets on a VLAN on a bond with large ones", "IPv6 only")
        for row in rows_of(recorded()[name]).values()
    )
    made = plan(facts("debian-12")).model_copy(update={"way_out": rows})
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115,PTH123
    console.print(Markdown(to_markdown(made)))
    section = console.export_text().partition("The way out")[2].partition("Will be wiped")[0]
    assert max(len(line) for line in section.splitlines()) <= 100
    for word in ("192.0.2.7/24", "2001:db8::7/64", "bond0.40", "fine", "1400"):
        assert word in section


TOLD = ("addresses", "routes_v4", "routes_v6", "links", "rules", "ways_out", "resolvers", "way_to_operator")


@quick
@given(
    st.dictionaries(st.sampled_from(TOLD), st.one_of(mixed, values.map(lambda value: json.dumps([value])))),
    values,
    mixed,
)
def test_hostile_answers_are_harmless(told: dict[str, str], value: object, text: str) -> None:
    hostile = link("eth0", addr_info=[{**address("192.0.2.7"), "address": value}], master=value, mtu=value)
    hostile |= {"ifname": text, "linkinfo": {"info_kind": value, "info_data": {"id": value}}}
    routes = [GATEWAY | {"dev": text, "metric": value, "flags": value, "nexthops": value}]
    for facts_ in (told, told_of([[hostile], routes, routes])):
        network = parse_way_back(way_back_answer(**facts_), "cottage").network
        plain = parse_network(
            {
                "interfaces": f"2: {text} inet 192.0.2.7/24\n3: eth0 inet {text}",
                "default_route": f"default via {text} dev {text}\ndefault via 192.0.2.1 dev eth0 metric {text}",
                "resolvers": f"nameserver {text}",
            }
        )
        for way_ in Way:
            rows = judge_way_out(network, plain, host(way=way_))
            for said in strings_of([row.model_dump(mode="json") for row in rows]):
                safe(said)
            assert sum(len(row.now) + len(row.then) for row in rows) < 100_000
            safe_markdown(to_markdown(plan(facts("debian-12")).model_copy(update={"way_out": rows})))
