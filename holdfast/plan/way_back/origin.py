"""Whether the origin comes back after a reboot, on its tailnet."""

from collections.abc import Iterator
from datetime import UTC, datetime

from holdfast.facts.way_back import WayBackFacts
from holdfast.inventory.host import Host
from holdfast.plan.way_back.row import Verdict, WayBackRow


def origin_rows(back: WayBackFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what the running origin shows of its next boot."""
    proof = back.boot.proved
    if proof and proof.fingerprint == back.boot.fingerprint:
        yield WayBackRow(
            subject="proof",
            seen=f"{host.name} came back by itself on {datetime.fromtimestamp(proof.at, UTC):%Y-%m-%d}, and nothing"
            " that decides its boot has changed since",
            means="its return is proved",
            verdict=Verdict.FINE,
        )
