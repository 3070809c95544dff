"""How a target is connected."""

import re
from collections.abc import Mapping

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, first_word, split_lines


class Network(Frozen):
    """How the target is connected.

    Attributes:
        addresses: `INTERFACE ADDRESS/PREFIX` of all interfaces except `lo`.
        default_routes: the lines that `ip route` prints.
        resolvers: addresses of the name servers.

    """

    addresses: tuple[str, ...] = ()
    default_routes: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()


def parse_network(said: Mapping[str, str]) -> Network:
    """Parse what facts.sh says about the network."""
    addresses = []
    for line in split_lines(said["interfaces"]):
        # 2: eth0    inet 192.0.2.2/24 brd …
        match = re.match(r"\d+: (\S+)\s+inet6? (\S+)", line)
        if match and match[1] != "lo":
            addresses.append(clean(f"{match[1]} {match[2]}"))
    routes = [clean(line) for line in split_lines(said["default_route"]) if line.strip()]
    resolvers = [first_word(line.removeprefix("nameserver ")) for line in split_lines(said["resolvers"])]
    return Network(
        addresses=tuple(addresses[:MAX_ITEMS]),
        default_routes=tuple(routes[:MAX_ITEMS]),
        resolvers=tuple(resolvers[:MAX_ITEMS]),
    )
