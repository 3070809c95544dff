"""Waits for the target to return from kexec, and proves that it is the same machine in the installer."""

from typing import Final, NamedTuple

from holdfast.base import clock
from holdfast.base.errors import DeadlinePassed, UnexpectedState
from holdfast.base.places import INSTALLER_MARK
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.facts import Facts
from holdfast.facts.identity import require_same_node
from holdfast.facts.marks import STOCK, InstallerMark
from holdfast.inventory.host import Host, Way
from holdfast.plan.foreign import FOREIGN_INSTALLER
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Returned, Started
from holdfast.plan.stage import Stage, is_foreign_installer, observe
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import is_over_local
from holdfast.tailnet.operator import path_to
from holdfast.target import dead_man
from holdfast.target.diagnose import Diagnosis
from holdfast.target.look import look
from holdfast.target.returning import PAUSE_S, Returning
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import machine_of

# How long the run waits for the tailnet before it uses the local address, which always answers earlier.
TAILNET_FIRST_S: Final = 120
ORIGIN_ANSWERS: Final = "the origin still answers"
NO_NODE_YET: Final = "the installer answers, its tailscaled is not up yet"
MARK_S: Final = 60
NEVER_STARTED: Final = "The installer never started: the origin still runs, and nothing was changed."


class _Seen(NamedTuple):
    """The accepted installer, when it answered, whether over `local`, and whether its dead-man was fed."""

    facts: Facts
    at: float
    over_local: bool
    fed: bool


@phase("reconnect", settled_by="partition")
def reconnect(host: Host, plan: Plan, built: Built, started: Started) -> Returned:
    """Wait for SSH from the installer, compare the identity, feed the dead-man. Diagnose while nothing answers.

    An answer over SSH proves nothing: the origin still answers for some seconds after kexec began.

    Raises:
        DeadlinePassed: the installer did not answer in time; the message says what was seen last, and what the dead-man
            will do.
        UnexpectedState: the origin, or another system, came back instead.
        NotTrusted: another node, or another host key, answers.

    """
    node = plan.origin.identity if host.way is Way.TAILSCALE else None
    machine = machine_of(host, plan)
    diagnosis = Diagnosis(host, node, addresses=plan.origin.addresses, log=machine.log)
    local_from = clock.monotonic() + min(TAILNET_FIRST_S, host.deadlines.kexec_return_s / 2)

    def probe() -> _Seen | None:
        with returning.meet() as met:
            target = met.target
            if started.kexec_at and met.who.boot_id == started.origin_boot_id:
                raise NotYet(ORIGIN_ANSWERS)
            if returning.asks_node and met.who.marked and met.who.node is None and not is_over_local(target, host):
                raise NotYet(NO_NODE_YET)
            facts = look(target)
            diagnosis.saw(facts)
            over_local = is_over_local(target, host)
            stage, why = observe(facts, built.toplevel)
            if stage is Stage.FINAL:
                return None
            # The boot id shows it also where the origin is an installer image itself.
            if facts.boot_id == started.origin_boot_id:
                raise NotYet(ORIGIN_ANSWERS)
            if stage is Stage.ORIGIN:
                raise UnexpectedState(
                    f"{host.name} came back in its origin, not in the installer.", hint=_back_in_origin(host)
                )
            if stage is Stage.OTHER:
                raise UnexpectedState(f"{host.name} came back as {why}.", hint="Look at it before you continue.")
            if host.way is Way.TAILSCALE:
                returning.asks_node = facts.identity is None
                _check_installer(host, plan, started, facts, over_local=over_local)
            if over_local and clock.monotonic() < local_from:
                raise NotYet(f"the installer answers at {host.local}, not over the tailnet yet")
            if host.way is Way.STANDARD and started.kexec_at and facts.installer_mark is None:
                _mark_stock_installer(target, plan, started)
            return _Seen(facts, met.at, over_local, dead_man.feed(target))

    if host.way is Way.TAILSCALE and started.kexec_at:
        at = dead_man.on_clock(started.kexec_at + host.deadlines.dead_man_s)
        say(
            f"if nobody reaches the installer, its dead-man reboots {host.name} into its untouched origin at about"
            f" {at} (operator's clock)"
        )
    what = f"{host.name} to return from kexec"
    say(f"waiting for {what}, at most {host.deadlines.kexec_return_s:.0f} s")
    try:
        with Returning(machine) as returning:
            seen = wait_for(
                what,
                diagnosis.watch(probe),
                deadline_s=host.deadlines.kexec_return_s,
                pause_s=PAUSE_S,
                on_change=say,
            )
    except DeadlinePassed as error:
        diagnosis.look()
        if str(error.__cause__) == ORIGIN_ANSWERS:
            what_next, hint = NEVER_STARTED, "Retry the run: it starts the installer again."
        else:
            what_next = _what_next(host, started)
            hint = diagnosis.hint() or "See docs/troubleshooting/cannot-connect-after-kexec.md."
            if host.local and diagnosis.answers_at() and not host.go_on_over_local:
                hint += " With go_on_over_local = true in the inventory, a retry uses that address."
        raise DeadlinePassed(f"{error.message} {diagnosis.summary()} {what_next}", hint=hint) from error
    if seen is None:
        return Returned(skipped="the final system runs already")
    return _returned(host, started, seen)


def _returned(host: Host, started: Started, seen: _Seen) -> Returned:
    """Log what came back and when its dead-man fires, and return the result."""
    facts, mark = seen.facts, seen.facts.installer_mark
    if seen.over_local:
        right = "SSH host key and mark are right" if mark else "its SSH host key is right"
        who = "it is the same node" if facts.identity else "which node it is could NOT be proved"
        warn(
            f"{host.name} does not answer over the tailnet: the run continues over {host.local} (go_on_over_local);"
            f" {right}, {who}"
        )
    if mark and mark.secrets.startswith("refused"):
        warn(f"the installer on {host.name} has none of its installer_secrets ({mark.secrets})")
    say(f"{host.name} is back, in the installer with kernel {facts.kernel_release}")
    dead_man_at = 0.0
    if seen.fed:
        dead_man_at = clock.now() + dead_man.waits_s(facts, host.deadlines)
        say(
            f"its dead-man was fed: it fires at about {dead_man.on_clock(dead_man_at)} (operator's clock), unless"
            " partition disarms it before"
        )
    return Returned(
        boot_id=facts.boot_id,
        kernel=facts.kernel_release,
        identity=facts.identity,
        away_s=round(seen.at - started.kexec_at, 1) if started.kexec_at else None,
        path="unknown" if seen.over_local else path_to(facts.identity),
        over_local=seen.over_local,
        dead_man_at=dead_man_at,
    )


def _mark_stock_installer(target: Connection, plan: Plan, started: Started) -> None:
    """Write the mark that a stock installer lacks: a later run must know what ran before, and who started this one."""
    mark = InstallerMark(
        image_id=STOCK,
        run_id=plan.run_id,
        origin_boot_id=started.origin_boot_id or None,
        origin_mark="yes" if plan.in_use else "no",
        state="none",
    )
    target.write_file(INSTALLER_MARK, mark.model_dump_json().encode(), mode=0o644, timeout_s=MARK_S, folder_mode=0o755)


def _check_installer(host: Host, plan: Plan, started: Started, facts: Facts, *, over_local: bool) -> None:
    """Check that mark and node are those of this run. Over the local address the node may be missing."""
    mark = facts.installer_mark
    if is_foreign_installer(facts) and not plan.foreign:
        raise UnexpectedState(
            f"{host.name} runs an installer without Holdfast's mark.",
            hint=f'Somebody else started it; ask them. To go on from there, put "{FOREIGN_INSTALLER}" in `allow` in the'
            " inventory, and start a new run.",
        )
    if mark and started.kexec_at and mark.run_id != plan.run_id:
        raise UnexpectedState(
            f"the installer on {host.name} was started by {mark.run_id or 'an unknown run'}, not by this run.",
            hint="If two runs work at once, let one of them finish.",
        )
    if facts.identity is None and over_local:
        state = mark.state if mark else "none"
        if plan.carries_state and state != "restored":
            # After formatting, restore would have no state to carry.
            raise NotYet(
                f"the installer answers at {host.local}, without the Tailscale state that the final system is to keep"
                f" ({state})"
            )
        return
    if facts.identity is None:
        raise NotYet(NO_NODE_YET)
    require_same_node(
        host.name,
        plan.origin.identity,
        facts.identity,
        hint="The state was not handed over completely; nothing was changed on the disks.",
    )


def _back_in_origin(host: Host) -> str:
    """Return the hint for an installer that is gone, with nothing changed on the disks."""
    why = "The installer panicked, or it was reset"
    if host.way is Way.TAILSCALE:
        why = "The installer panicked or its dead-man fired"
    return (
        f"{why}; nothing was changed on the disks. Look at the machine's console, then retry the run: it starts the"
        " installer again."
    )


def _what_next(host: Host, started: Started) -> str:
    """Return what happens next while nobody can reach the installer, for the message."""
    if host.way is Way.STANDARD:
        return (
            "The standard way has no dead-man. Its disks are untouched: switched off and on at the machine, it boots"
            " its old system."
        )
    if not started.kexec_at:
        return "This run did not start the installer, so it is unknown when its dead-man fires."
    at = started.kexec_at + host.deadlines.dead_man_s
    verb = "reboots" if at > clock.now() else "was to reboot"
    return (
        f"The dead-man {verb} it into its untouched origin at about {dead_man.on_clock(at)} (operator's clock). Before,"
        " a retry waits again; after, it starts the installer again."
    )
