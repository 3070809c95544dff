"""Waits for the target to return from kexec, and proves that it is the same machine in the installer."""

import time

from tasks.model.errors import DeadlinePassed, UnexpectedState
from tasks.model.facts import Facts
from tasks.model.host import Host, Way
from tasks.model.plan import Plan
from tasks.model.results import Built, Returned, Started
from tasks.model.stage import Stage, observe
from tasks.phase import phase, say
from tasks.remote import dead_man
from tasks.remote.look import look
from tasks.remote.reach import reach
from tasks.remote.waiting import NotYet, wait_for
from tasks.tailnet.identity import require_same_node
from tasks.tailnet.operator import path_to


@phase("reconnect")
def reconnect(host: Host, plan: Plan, built: Built, started: Started) -> Returned:
    """Wait for SSH from the installer, compare the identity, feed the dead-man.

    That SSH answers is no proof: the old system still does so for seconds after kexec began.

    Raises:
        DeadlinePassed: nothing came back; says what was seen last and what the dead-man will do.
        UnexpectedState: the origin came back instead.
        NotTrusted: another node, or another host key, answers.

    """

    def probe() -> Facts | None:
        with reach(host) as target:
            facts = look(target)
            stage, why = observe(facts, built.toplevel)
            if stage is Stage.FINAL:
                return None
            # The boot id is what tells an origin that is an installer image itself.
            if facts.boot_id == started.origin_boot_id:
                raise NotYet("the origin still answers")
            if stage is Stage.ORIGIN:
                raise UnexpectedState(
                    f"{host.name} came back in its origin, not in the installer.",
                    hint="The installer panicked or its dead-man fired; nothing was changed on the disks. "
                    "Look at the machine's console, then start a new run.",
                )
            if stage is Stage.OTHER:
                raise UnexpectedState(f"{host.name} came back as {why}.", hint="Look at it before going on.")
            if host.way is Way.TAILSCALE:
                _check_installer(host, plan, started, facts)
            dead_man.feed(target)
            return facts

    what = f"{host.name} to return from kexec"
    try:
        facts = wait_for(what, probe, deadline_s=host.deadlines.kexec_return_s, on_change=say)
    except DeadlinePassed as error:
        raise DeadlinePassed(f"{error.message} {_what_next(host, started)}", hint=error.hint) from error
    if facts is None:
        return Returned(skipped="the final system runs already")
    away_s = round(time.time() - started.kexec_at, 1) if started.kexec_at else None
    mark = facts.installer_mark
    say(f"{host.name} is back, in the installer with kernel {facts.kernel_release}")
    return Returned(
        boot_id=facts.boot_id,
        kernel=facts.kernel_release,
        identity=facts.identity,
        away_s=away_s,
        path=path_to(facts.identity),
        dead_man_at=mark.dead_man_at or 0 if mark else 0,
    )


def _check_installer(host: Host, plan: Plan, started: Started, facts: Facts) -> None:
    """Compare mark and node of the installer with this run's."""
    mark = facts.installer_mark
    if mark is None:
        raise UnexpectedState(
            f"{host.name} runs an installer without Holdfast's mark.", hint="Somebody else started it; ask them."
        )
    if started.kexec_at and mark.run_id != plan.run_id:
        raise UnexpectedState(
            f"the installer on {host.name} was started by {mark.run_id or 'nobody known'}, not by this run.",
            hint="Two runs at once? Let one of them finish.",
        )
    if facts.identity is None:
        raise NotYet("the installer answers, its tailscaled is not up yet")
    require_same_node(
        host.name,
        plan.origin.identity,
        facts.identity,
        hint="The state was not handed over whole; nothing was changed on the disks.",
    )


def _what_next(host: Host, started: Started) -> str:
    """Say what happens by itself when nobody can reach the installer."""
    if host.way is Way.STANDARD:
        return (
            "The standard way has no dead-man. Its disks are untouched: switched off and on at the machine, it boots"
            " its old system."
        )
    if not started.kexec_at:
        return "This run did not start the installer, so its dead-man's time is not known."
    when = time.strftime("%H:%M:%S", time.localtime(started.kexec_at + host.deadlines.dead_man_s))
    return f"The dead-man reboots it into its untouched origin at about {when} (operator's clock)."
