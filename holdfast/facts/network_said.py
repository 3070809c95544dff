"""The network of an origin, as way-back.sh tells it: the JSON of its `ip`, and lines of /sys."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.facts.bounded import MAX_ITEMS, clean, first_words, number, split_lines
from holdfast.facts.links import ADDRESS, Card, Link, LinkAddress, NetworkFacts, Route, is_address, is_mac

MAX_LINKS: Final = 512
_WORDS: Final = 9
_DEV: Final = re.compile(r"\bdev (\S{1,15})")
_LOOKUP: Final = re.compile(r"\blookup (\S+)")
# Of the kernel (ip-rule(8)), and of tailscaled, which makes its own again (tailscale's util/linuxfw).
_USUAL_TABLES: Final = ("local", "main", "default", "52", "unspec")


def parse_links(said: Mapping[str, str]) -> NetworkFacts:
    """Parse what way-back.sh says of the network."""
    tables = (match[1] for line in split_lines(said["rules"]) if (match := _LOOKUP.search(line)))
    operator = _DEV.search(said["way_to_operator"])
    routes = [*_routes(said["routes_v4"], 4), *_routes(said["routes_v6"], 6)]
    return NetworkFacts(
        links=_links(list(_objects(said["addresses"]))),
        cards=dict(_card(line) for line in split_lines(said["links"])[:MAX_LINKS]),
        routes=tuple(dict.fromkeys(routes)),
        leaves_by=tuple(dict.fromkeys(clean(dev) for dev in _DEV.findall(said["ways_out"])))[:MAX_ITEMS],
        operator_by=clean(operator[1]) if operator else "",
        tables=tuple(dict.fromkeys(clean(table) for table in tables if table not in _USUAL_TABLES))[:MAX_ITEMS],
        resolvers=tuple(first_words(said["resolvers"].replace("nameserver ", ""))),
    )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of lists of JSON that follow each other; what is cut off ends them."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at] in "[], \n\t":
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            yield value


def _card(line: str) -> tuple[str, Card]:
    words = line.split(" ")
    words += ["-"] * (_WORDS - len(words))
    name, type_, kind, bus, driver, taint, mac, mtu, master = words[:_WORDS]
    lower = words[_WORDS:]
    said = {key: clean(value) for key, value in (("kind", kind), ("bus", bus), ("driver", driver), ("master", master))}
    return clean(name), Card(
        type=number(type_),
        foreign="O" in taint,
        mac=mac if is_mac(mac) else "",
        mtu=number(mtu),
        lower=tuple(clean(word) for word in lower[:MAX_ITEMS] if word and word != "-"),
        **{key: "" if value == "-" else value for key, value in said.items()},
    )


def _links(said: list[dict[str, Any]]) -> tuple[Link, ...]:
    named = [link for link in said if isinstance(link.get("ifname"), str)][:MAX_LINKS]
    masters = {_text(link.get("master")) for link in named}
    return tuple(_link(link, masters) for link in named)


def _link(said: dict[str, Any], masters: set[str]) -> Link:
    info = _object(said.get("linkinfo"))
    data = _object(info.get("info_data"))
    name, mac = said["ifname"], said.get("address")
    tag = data["id"] if "id" in data else _tag_of(name)
    flags = said.get("flags")
    if info.get("info_kind"):
        kind = _text(info["info_kind"])
    elif said.get("link_type") != "ether":
        kind = _text(said.get("link_type"))
    elif said.get("link"):
        kind = "vlan" if tag else "unknown"
    elif isinstance(flags, list) and "MASTER" in flags:
        kind = "bond"
    else:
        kind = "bridge" if name in masters else "card"
    addresses = said.get("addr_info")
    return Link(
        name=clean(name),
        kind=kind,
        detailed="linkinfo" in said,
        mac=mac if isinstance(mac, str) and is_mac(mac) else "",
        mtu=_count(said.get("mtu")),
        tag=_count(tag),
        master=_text(said.get("master")),
        lower=_text(said.get("link")),
        addresses=tuple(_addresses(addresses if isinstance(addresses, list) else [])),
    )


def _addresses(said: list[Any]) -> Iterator[LinkAddress]:
    for each in said[:MAX_ITEMS]:
        address = f"{_object(each).get('local')}/{_object(each).get('prefixlen')}"
        if not is_address(address):
            continue
        near = each.get("scope") == "host" or (":" in address and each.get("scope") == "link")
        peer = _text(each.get("address"))
        yield LinkAddress(
            address=address,
            peer=peer if ADDRESS.fullmatch(peer) else "",
            lasts=each.get("dynamic") is not True and each.get("temporary") is not True,
            near=near,
        )


def _routes(text: str, family: int) -> Iterator[Route]:
    """Yield the routes that lead somewhere, those with several next hops as one for each."""
    for number_, said in enumerate(_objects(text)):
        if number_ > MAX_LINKS:
            return
        if said.get("type", "unicast") != "unicast":
            continue
        hops = said.get("nexthops")
        for hop in hops[:MAX_ITEMS] if isinstance(hops, list) else [{}]:
            yield from _route({**said, **_object(hop)}, family)


def _route(said: dict[str, Any], family: int) -> Iterator[Route]:
    flags = said.get("flags")
    flags = flags if isinstance(flags, list) else []
    gateway = _text(said.get("gateway") or _object(said.get("via")).get("host"))
    dst, dev = _text(said.get("dst")), _text(said.get("dev"))
    if not dev or (gateway and not ADDRESS.fullmatch(gateway)) or not (dst == "default" or ADDRESS.fullmatch(dst)):
        return
    yield Route(
        family=family,
        dst=dst,
        dev=dev,
        gateway=gateway,
        onlink="onlink" in flags,
        metric=_count(said.get("metric")),
        protocol=_text(said.get("protocol")),
        expires=bool(said.get("expires")),
        dead="linkdown" in flags or "dead" in flags,
    )


def _tag_of(name: str) -> int:
    match = re.search(r"(?:\.|\Avlan)([0-9]{1,4})\Z", name)
    return int(match[1]) if match else 0


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value < 2**32 else 0
