"""The report of a run, made from its journal: what was done, how long it took, and the proof of it."""

import platform
import re
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

from pydantic import ConfigDict, JsonValue, ValidationError

from holdfast import __version__
from holdfast.base import clock
from holdfast.base.frozen import Frozen
from holdfast.base.places import HOLDFAST_DIR
from holdfast.base.text import in_markdown
from holdfast.facts.efi import EfiFacts
from tasks.run.journal import Attempt, Outcome
from tasks.run.stopping import CONTINUE

LONGEST_CELL: Final = 256
LONGEST_ERROR: Final = 4000
LONGEST_ORDER: Final = 1000
# Boot ids, node keys, store paths.
_PLAIN: Final = re.compile(r"[A-Za-z0-9:/+._?=-]{1,256}")
REHEARSAL: Final = "rehearse"
# The stage after a rehearsal's reboot of the origin (tasks/prove_origin.py).
PROVED: Final = "proved"
DONE: Final = "Nothing is left to do: log in over the tailnet. The vault keeps a copy of the old state."
REHEARSED: Final = (
    "The machine came back as the same node. Its disks did not change, except for the image and the proof of its return"
    f" in `{HOLDFAST_DIR}`."
    " `install/{host}` may follow; it does not upload the image again."
)
CANCELLED: Final = (
    "If you still want it, Retry this run in the Prefect UI, or start a new one: finished work is not repeated."
)
LEFT_ALONE: Final = "Nothing was changed, and nothing is left to do."
FAILED: Final = (
    "Fix the cause of the error, then Retry this run in the Prefect UI: finished phases are not run again. A corrected"
    " flake needs a fresh run."
)
NOT_REHEARSED: Final = (
    "No disk was touched. A machine that is still in the installer goes back to its origin by itself when its dead-man"
    " fires. Fix the cause of the error, then Retry this run. If the run never saw the installer, start a new one."
)


class PhaseReport(Frozen):
    """One phase over all its attempts; `seconds`, `connections` and `commands` are the sums of theirs."""

    name: str
    outcome: str
    seconds: float
    attempts: int
    connections: int
    commands: int


class NodeIdentity(Frozen):
    """Which node the machine was in one stage. Only these fields of a phase's result are shown."""

    model_config = ConfigDict(extra="ignore")

    node_key: str
    node_id: str
    addresses: tuple[str, ...]


class Closure(Frozen):
    """Store paths: the system that was built, and the one that booted."""

    built: str | None
    booted: str | None


class EfiEntries(Frozen):
    """The firmware's entries: `order`, as the firmware tries them, and each entry's number with its name and kind."""

    order: tuple[str, ...]
    entries: tuple[str, ...]


class Efi(Frozen):
    """The firmware's entries before the install and after it; None for what this run has not seen."""

    before: EfiEntries | None
    after: EfiEntries | None


class Away(Frozen):
    """Seconds until SSH answered over the tailnet.

    It counts from the origin's own reboot in a rehearsal, kexec, the start of the trial, and the reboot at the end.
    """

    origin: float | None
    kexec: float | None
    trial: float | None
    reboot: float | None


class Report(Frozen):
    """Everything about a run. Times are in seconds, sizes in bytes.

    Attributes:
        flow: `install` or `rehearse`.
        said: why a run ended before its work, although nothing failed; empty if it did its work, or failed.
        identity: by stage; the last is `final`, or in a rehearsal `returned`, which is the origin again. A rehearsal
            that rebooted the origin first has `proved`, the origin after that.
        boot_id: likewise.
        outside_phases_s: time inside the run but outside any phase.
        efi: the firmware's entries; None without UEFI.
        path: how the operator reached the last system, or the installer: direct, relay or unknown.
        connections: how many SSH connections were let in, those of `nix copy` included.
        commands: how many commands were sent over them, without those of `nix copy`.
        peak_rss_bytes: the most memory that the flow's process used.

    """

    run_id: str
    flow: str
    host: str
    outcome: Outcome
    error: str
    said: str
    finished_at: str
    seconds: float
    phases: tuple[PhaseReport, ...]
    outside_phases_s: float
    identity: Mapping[str, NodeIdentity | None]
    boot_id: Mapping[str, str | None]
    closure: Closure
    away_s: Away
    efi: Efi | None = None
    path: str
    connections: int
    commands: int
    peak_rss_bytes: int
    versions: Mapping[str, str]

    def in_short(self) -> str:
        """Return how the run ended, for a list of artifacts."""
        at = next((phase.name for phase in reversed(self.phases) if phase.outcome == self.outcome), "")
        where = f" in {at}" if at and self.outcome in ("failed", "cancelled") else ""
        return f"{self.outcome}{where} after {self.seconds:.0f} s"

    def to_markdown(self) -> str:
        """Return the report as the artifact in Prefect's UI."""
        rows = "\n".join(
            f"| {in_markdown(phase.name, LONGEST_CELL)} | {in_markdown(phase.outcome, LONGEST_CELL)} "
            f"| {phase.seconds:.1f} | {phase.attempts} | {phase.connections} | {phase.commands} |"
            for phase in self.phases
        )
        stages = "\n".join(
            f"| {stage} | {_shown(self.boot_id[stage])} | {_who(self.identity[stage])} |" for stage in self.boot_id
        )
        return (
            f"# {self.flow} {in_markdown(self.host, LONGEST_CELL)}: {self.outcome} after {self.seconds:.0f} s\n\n"
            + "".join(f"> {in_markdown(text, LONGEST_ERROR)}\n\n" for text in (self.error, self.said) if text)
            + "| phase | outcome | seconds | attempts | connections | commands |\n|---|---|---:|---:|---:|---:|\n"
            f"{rows}\n\n"
            f"| stage | boot id | identity |\n|---|---|---|\n{stages}\n\n"
            f"- built: {_shown(self.closure.built)}\n"
            + ("" if self.flow == REHEARSAL else f"- booted: {_shown(self.closure.booted)}\n")
            + "- away: "
            + (f"{_seconds(self.away_s.origin)} for the origin's own reboot, " if PROVED in self.boot_id else "")
            + f"{_seconds(self.away_s.kexec)} for kexec, "
            + ("" if self.flow == REHEARSAL else f"{_seconds(self.away_s.trial)} for the trial, ")
            + f"{_seconds(self.away_s.reboot)} for the reboot; "
            f"path: {in_markdown(self.path, LONGEST_CELL)}\n"
            + _orders(self.efi)
            + f"- {self.connections} SSH connections, {self.commands} commands\n"
            + f"- outside any phase: {self.outside_phases_s:.1f} s; "
            f"memory of the flow: {self.peak_rss_bytes / 1e6:.0f} MB\n\n**Next:** {self._next()}\n"
        )

    def _next(self) -> str:
        """Return what the user does now."""
        if self.outcome in ("cancelled", "stopped"):
            return CANCELLED if self.outcome == "cancelled" else CONTINUE
        if self.flow == REHEARSAL:
            return (
                REHEARSED.format(host=in_markdown(self.host, LONGEST_CELL)) if self.outcome == "done" else NOT_REHEARSED
            )
        if self.said:
            return LEFT_ALONE
        return DONE if self.outcome == "done" else FAILED


def _orders(efi: Efi | None) -> str:
    """Return the firmware's orders as lines of the list; empty without UEFI."""
    if not efi:
        return ""
    shown = []
    for when, seen in (("before", efi.before), ("after", efi.after)):
        names = dict(entry.split(" ", 1) for entry in seen.entries) if seen else {}
        order = ", ".join(f"{number} {names.get(number, '(no entry)')}" for number in seen.order) if seen else ""
        shown.append(f"- firmware's order {when}: {in_markdown(order or 'not seen in this run', LONGEST_ORDER)}\n")
    return "".join(shown)


def _who(identity: NodeIdentity | None) -> str:
    if identity is None:
        return "none"
    return f"{_shown(identity.node_key[:24])}… {in_markdown(', '.join(identity.addresses), LONGEST_CELL)}"


def _shown(text: str | None) -> str:
    """Return text from the target: as code if it has the expected form, else escaped."""
    plain = text or "?"
    return f"`{plain}`" if _PLAIN.fullmatch(plain) else in_markdown(plain, LONGEST_CELL)


def _seconds(value: float | None) -> str:
    return "not in this run" if value is None else f"{value:.1f} s"


def assemble(run_id: str, flow: str, host: str, entries: Iterable[Attempt], *, peak_rss_bytes: int) -> Report:
    """Make the report from a journal. What no phase has found out stays None."""
    all_entries = list(entries)
    stage, last = ("returned", "go_back") if flow == REHEARSAL else ("final", "verify")
    runs = [entry for entry in all_entries if entry.phase == "run"]
    attempts = [entry for entry in all_entries if entry.phase != "run"]
    results = {entry.phase: entry.result for entry in attempts if entry.outcome == "done"}
    proved = {PROVED: ("prove_origin",)} if _get(results, "prove_origin", "boot_id") else {}
    places = {"origin": ("preflight", "origin"), **proved, "installer": ("reconnect",), stage: (last,)}
    spans = [*runs, *_killed(attempts, {entry.start for entry in runs})]
    total_s = sum(entry.seconds for entry in spans)
    return Report(
        run_id=run_id,
        flow=flow,
        host=host,
        outcome=runs[-1].outcome if runs else "failed",
        error=runs[-1].error if runs else "",
        said=_text(_get({"run": runs[-1].result}, "run", "said")) or "" if runs else "",
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.now())),
        seconds=round(total_s, 3),
        phases=_phases(attempts),
        outside_phases_s=round(total_s - sum(entry.seconds for entry in attempts), 3),
        identity={name: _identity(_get(results, *place, "identity")) for name, place in places.items()},
        boot_id={name: _text(_get(results, *place, "boot_id")) for name, place in places.items()},
        closure=Closure(
            built=_text(_get(results, "build", "toplevel")), booted=_text(_get(results, "verify", "booted"))
        ),
        away_s=Away(
            origin=_number(_get(results, "prove_origin", "away_s")),
            kexec=_number(_get(results, "reconnect", "away_s")),
            trial=_number(_get(results, "trial", "away_s")),
            reboot=_number(_get(results, last, "away_s")),
        ),
        efi=_efi(_get(results, "preflight", "efi"), _get(results, last, "efi") or _get(results, "finish", "efi")),
        path=_text(_get(results, last, "path") or _get(results, "reconnect", "path")) or "unknown",
        connections=sum(entry.connections for entry in spans),
        commands=sum(entry.commands for entry in spans),
        peak_rss_bytes=peak_rss_bytes,
        versions={
            "holdfast": __version__,
            "prefect": version("prefect"),
            "python": platform.python_version(),
            "nix": _text(_get(results, "build", "nix_version")) or "unknown",
            "tailscale": _text(_get(results, "preflight", "origin", "tailscale_version")) or "unknown",
        },
    )


def _killed(attempts: Iterable[Attempt], ended: set[int]) -> list[Attempt]:
    """Return what is known of the starts of the run that were killed, each as one entry: they wrote none of their own.

    Args:
        attempts: at phases, in their order.
        ended: the starts that did end.

    """
    killed: dict[int, list[Attempt]] = {}
    for entry in attempts:
        if entry.start not in ended:
            killed.setdefault(entry.start, []).append(entry)
    return [
        Attempt(
            phase="run",
            outcome="failed",
            started_at=seen[0].started_at,
            seconds=max(seen[-1].started_at + seen[-1].seconds - seen[0].started_at, sum(one.seconds for one in seen)),
            start=start,
            connections=sum(one.connections for one in seen),
            commands=sum(one.commands for one in seen),
        )
        for start, seen in killed.items()
    ]


def _outcome(tries: list[Attempt]) -> str:
    """Return how a phase ended. One that found nothing left to do, since this run had done it before, is done."""
    last = tries[-1]
    if not _skipped(last):
        return last.outcome
    return "done" if any(each.outcome == "done" and not _skipped(each) for each in tries) else "skipped"


def _skipped(attempt: Attempt) -> bool:
    return bool(_get({"it": attempt.result}, "it", "skipped"))


def _phases(attempts: Iterable[Attempt]) -> tuple[PhaseReport, ...]:
    by_name: dict[str, list[Attempt]] = {}
    for entry in attempts:
        by_name.setdefault(entry.phase, []).append(entry)
    return tuple(
        PhaseReport(
            name=name,
            outcome=_outcome(tries),
            seconds=round(sum(entry.seconds for entry in tries), 3),
            attempts=len(tries),
            connections=sum(entry.connections for entry in tries),
            commands=sum(entry.commands for entry in tries),
        )
        for name, tries in by_name.items()
    )


def _get(results: Mapping[str, JsonValue], *keys: str) -> JsonValue:
    """Follow keys into nested JSON. Return None if a key is missing."""
    value: JsonValue = dict(results)
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None


def _efi(before: JsonValue, after: JsonValue) -> Efi | None:
    said = [_entries(value) for value in (before, after)]
    return Efi(before=said[0], after=said[1]) if any(said) else None


def _entries(value: JsonValue) -> EfiEntries | None:
    try:
        seen = EfiFacts.model_validate(value) if isinstance(value, dict) else None
    except ValidationError:
        return None
    if seen is None:
        return None
    return EfiEntries(order=seen.order, entries=tuple(f"{entry.describe()} ({entry.kind})" for entry in seen.entries))


def _identity(value: JsonValue) -> NodeIdentity | None:
    try:
        return NodeIdentity.model_validate(value) if isinstance(value, dict) else None
    except ValidationError:
        return None
