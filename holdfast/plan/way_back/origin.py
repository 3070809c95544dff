"""Whether the origin comes back after a reboot, on its tailnet."""

from collections.abc import Iterator
from typing import Final

from holdfast.facts.boot import BootFacts
from holdfast.facts.way_back import WayBackFacts
from holdfast.inventory.host import Host
from holdfast.plan.way_back.changes import boot_row, changes_row, day, loader_rows, order_row
from holdfast.plan.way_back.file_systems import file_system_rows
from holdfast.plan.way_back.opening import opening_rows
from holdfast.plan.way_back.row import Verdict, WayBackRow
from holdfast.plan.way_back.starting import ssh_row, tailscaled_row

# What a proof does not cover: it may have come since, and no digest shows it.
_NOT_PROVED: Final = ("file systems", "hibernation", "next boot", "boot order")


def origin_rows(back: WayBackFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what the running origin shows of its next boot.

    A proof, made by `rehearse --origin` and valid as long as nothing that decides a boot has changed, makes fine what
    was only unproved.
    """
    boot = back.boot
    proof = boot.proved
    proved = proof is not None and bool(boot.fingerprint) and proof.fingerprint == boot.fingerprint
    if proof is not None:
        yield _proof(boot, host, proved=proved)
    for row in _rows(back, host):
        if proved and row.verdict is Verdict.UNPROVED and row.subject not in _NOT_PROVED:
            yield row.model_copy(
                update={"verdict": Verdict.FINE, "means": "it came back all the same when that was proved", "hint": ""}
            )
        else:
            yield row


def _rows(back: WayBackFacts, host: Host) -> Iterator[WayBackRow]:
    boot = back.boot
    yield from opening_rows(boot)
    yield from tailscaled_row(boot.starting, host)
    yield from ssh_row(boot.starting)
    yield from boot_row(boot)
    yield from changes_row(boot, host)
    yield from loader_rows(boot)
    yield from file_system_rows(boot)
    yield from order_row(back.efi)


def _proof(boot: BootFacts, host: Host, *, proved: bool) -> WayBackRow:
    at = day(int(boot.proved.at)) if boot.proved else "?"
    if proved:
        return WayBackRow(
            subject="proof",
            seen=f"proved on {at}: it came back by itself, and nothing that decides its boot has changed since",
            means=f"{host.name} comes back",
            verdict=Verdict.FINE,
        )
    return WayBackRow(
        subject="proof",
        seen=f"it came back by itself on {at}, and something that decides its boot has changed since",
        means="that proves nothing any more",
        hint="Rehearse the origin again.",
        verdict=Verdict.UNPROVED,
    )
