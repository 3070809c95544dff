"""A run that is cancelled: how it finds out without Prefect's runner, and what it says when it stops.

A runner that was without its Prefect server for some 13 s never again sees that a run is cancelled (Prefect 3.9.1:
"flow run cancellation will fail"). So each phase asks by itself.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from pydantic import JsonValue

from holdfast.base.errors import HoldfastError
from holdfast.inventory.host import Host, Way
from holdfast.plan.plan import Plan
from holdfast.target.dead_man import on_clock
from holdfast.target.whereabouts import whereabouts
from tasks.run.journal import Attempt
from tasks.run.this_run import journal, machine_of, run_id

# The work stands still meanwhile.
ANSWER_S: Final = 5.0
WAY_ON: Final = "Retry this run, or start a new one: it continues from what it finds there."

CONTINUE: Final = "To continue, start a run without `until`: it goes by what it finds there."


def is_cancelled() -> bool | None:
    """Ask Prefect once whether this run is to stop. Return None if the server does not answer, or has no such run."""
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client,
        ):
            state = client.read_flow_run(UUID(run_id())).state
    except (ObjectNotFound, httpx.HTTPError, ValueError):  # ValueError: something else answers there
        return None
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def stopped_in(phase: str, host: Host | None, plan: Plan | None) -> str:
    """Return what a run says that stops in a phase: where the machine is, what happens there, and the way on.

    Args:
        phase: the phase's name.
        host: its machine; None if the phase has none.
        plan: the machine's plan; None if there is none yet.

    """
    where = _where(phase, host, plan) if host else ""
    return " ".join(part for part in (f"cancelled in the phase {phase}.", where, WAY_ON) if part)


def stopped_after(phase: str, host: Host, plan: Plan) -> str:
    """Return what a run says that ends after a phase, as asked: where the machine is, and the way on."""
    return f"stopped after {phase}, as asked. {_where(phase, host, plan)} {CONTINUE}"


def _where(phase: str, host: Host, plan: Plan | None) -> str:
    try:
        return whereabouts(machine_of(host, plan))
    except HoldfastError as error:
        return (
            f"{host.name} could not be looked at: {error.message} Last known:"
            f" {last_known(phase, host, journal().entries())}"
        )


def last_known(phase: str, host: Host, entries: Iterable[Attempt]) -> str:
    """Say where a machine was, as far as the phase in which the run stops, and its journal, tell."""
    done = {entry.phase: entry.result for entry in entries if entry.outcome == "done"}
    seen = {name: value for name, value in done.items() if isinstance(value, Mapping) and not value.get("skipped")}
    if "reboot" in seen:
        return "it was told to reboot into its final system."
    if "trial" in seen:
        return "its final system runs, and has its boot loader."
    if "partition" in seen:
        return "its disks are formatted, and it stays in the installer until it is rebooted."
    kexec_at, fires_at = _moment(seen, "kexec", "kexec_at"), _moment(seen, "reconnect", "dead_man_at")
    if phase == "prove_origin":
        return "it may have been told to reboot, by its own boot loader; this run has not started the installer."
    if not kexec_at and not fires_at:
        return "this run has not started the installer."
    if host.way is Way.STANDARD:
        return "the installer was started. It has no dead-man: switched off and on, the machine boots its old system."
    at = on_clock(fires_at or kexec_at + host.deadlines.dead_man_s)
    return f"the installer was started; its dead-man takes it back to its origin at about {at} (operator's clock)."


def _moment(results: Mapping[str, Mapping[str, JsonValue]], phase: str, key: str) -> float:
    value = results.get(phase, {}).get(key)
    return float(value) if isinstance(value, int | float) else 0.0
