"""Whether the origin comes back after a reboot, on its tailnet."""

from collections.abc import Iterator
from typing import Final

from holdfast.facts.boot import BootFacts, Proof
from holdfast.facts.way_back import WayBackFacts
from holdfast.inventory.host import Host
from holdfast.plan.way_back.changes import boot_row, changes_row, day, loader_rows, order_row
from holdfast.plan.way_back.file_systems import file_system_rows
from holdfast.plan.way_back.opening import opening_rows
from holdfast.plan.way_back.row import Verdict, WayBackRow
from holdfast.plan.way_back.starting import ssh_row, tailscaled_row

# What a proof does not cover: it may have come since, and no digest shows it.
_NOT_PROVED: Final = ("file systems", "hibernation", "next boot", "boot order")
# What would strand the machine as far as can be seen, and what a boot shows to be otherwise. Not encryption: a proof
# does not show that nobody typed the passphrase.
_SHOWN_BY_BOOT: Final = ("tailscaled", "SSH")
_NAMED: Final = 6


def origin_rows(back: WayBackFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what the running origin shows of its next boot.

    A proof is made by a rehearsal, and valid as long as nothing that decides a boot has changed. It makes fine what was
    only unproved, and what was judged by units and processes alone.
    """
    boot = back.boot
    proof = boot.proved
    proved = proof is not None and bool(boot.fingerprint) and proof.fingerprint == boot.fingerprint
    if proof is not None:
        yield _proof(boot, proof, host, proved=proved)
    for row in _rows(back, host):
        if proof is not None and proved and _is_shown(row):
            means = f"proved on {day(int(proof.at))}: it came back all the same"
            yield row.model_copy(update={"verdict": Verdict.FINE, "means": means, "hint": ""})
        else:
            yield row


def _is_shown(row: WayBackRow) -> bool:
    """Return whether a boot after which the machine was there settles what a row doubts."""
    if row.verdict is Verdict.STRANDS:
        return row.subject in _SHOWN_BY_BOOT
    return row.verdict is Verdict.UNPROVED and row.subject not in _NOT_PROVED


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


def _proof(boot: BootFacts, proof: Proof, host: Host, *, proved: bool) -> WayBackRow:
    at = day(int(proof.at))
    if proved:
        return WayBackRow(
            subject="proof",
            seen=f"proved on {at}: it came back by itself, and nothing that decides its boot has changed since",
            means=f"{host.name} comes back",
            verdict=Verdict.FINE,
        )
    # The files' times are by the origin's clock, the proof's by an operator's; what was removed has no time.
    changed = sorted((file for file in boot.files if file.changed_at > proof.at), key=lambda file: -file.changed_at)
    named = ", ".join(f"{file.path} ({day(file.changed_at)})" for file in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return WayBackRow(
        subject="proof",
        seen=f"proved on {at}, and changed since: {f'{named}{more}' or 'something else that decides its boot'}",
        means="that proves nothing any more",
        hint=f"Prove it again: `just rehearse {host.name} --origin`.",
        verdict=Verdict.UNPROVED,
    )
