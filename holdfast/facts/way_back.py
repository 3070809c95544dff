"""Whether the origin comes back, and its network: parsed from the JSON object of nix/scripts/origin/way-back.sh."""

from collections import defaultdict

from holdfast.base.frozen import Frozen
from holdfast.facts.answer import parse_answer
from holdfast.facts.boot import BootFacts, parse_boot
from holdfast.facts.efi import EfiFacts, parse_efi
from holdfast.facts.links import NetworkFacts
from holdfast.facts.network_said import parse_links
from holdfast.facts.watchdog import WatchdogFacts, parse_watchdog


class WayBackFacts(Frozen):
    """What decides whether an origin comes back, and whether its installer is reached.

    Attributes:
        boot: how it boots, and what it then starts.
        watchdog: its hardware watchdogs.
        efi: the firmware's own boot entries.
        network: its links, addresses and routes.

    """

    boot: BootFacts = BootFacts()
    watchdog: WatchdogFacts = WatchdogFacts()
    efi: EfiFacts = EfiFacts()
    network: NetworkFacts = NetworkFacts()


def parse_way_back(output: str, host: str) -> WayBackFacts:
    """Parse what nix/scripts/origin/way-back.sh printed.

    Args:
        output: all of its standard output.
        host: the host's name, for the message.

    Raises:
        UnexpectedState: the output is not from the script, or is incomplete.

    """
    return parse_answer(output, host, _way_back)


def _way_back(members: dict[str, str]) -> WayBackFacts:
    # Each fact may be empty on some machine, so one that is missing is no other case.
    said = defaultdict(str, members)
    return WayBackFacts(
        boot=parse_boot(said), watchdog=parse_watchdog(said), efi=parse_efi(said), network=parse_links(said)
    )
