"""The origin's return: asking it to reboot, waiting until it is back, and the proof of it, which is kept there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from holdfast.base import clock
from holdfast.base.errors import NeverCame
from holdfast.base.frozen import Frozen
from holdfast.base.places import HOLDFAST_DIR, ORIGIN_PROVED, ORIGIN_REBOOT
from holdfast.base.settings import script
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.boot import Proof
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import require_home
from holdfast.plan.results import Built
from holdfast.ssh.connection import Connection
from holdfast.target.diagnose import Diagnosis
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.private import make_private
from holdfast.target.returning import PAUSE_S, Returning
from holdfast.target.way_back import look_back

STILL_ANSWERS: Final = "the system that was to reboot still answers"
NO_NODE_YET: Final = "the origin answers, its tailscaled is not up yet"
WRITE_S: Final = 60
MAX_BYTES: Final = 1024


class _Asked(Frozen):
    """Who asked the origin to reboot, and on which boot; on its disk, so that nobody asks twice."""

    run_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Home:
    """The origin is back.

    Attributes:
        facts: what it answered.
        identity: who it is on its tailnet.
        host_key: the SSH host key that answered.
        away_s: seconds from the reboot to SSH; None if this wait did not ask for the reboot.

    """

    facts: Facts
    identity: Identity
    host_key: str
    away_s: float | None


def wait_for_origin(
    machine: Machine,
    plan: Plan,
    built: Built,
    *,
    what: str,
    left: str,
    leaving: str = "",
    check: Callable[[Connection, Facts], None],
    leave: Callable[[Connection], None],
    then: Callable[[float], str],
    hint: str,
) -> Home:
    """Ask a system once to reboot, and wait for the origin on its tailnet.

    Args:
        machine: the machine; whichever boot answers.
        plan: its plan.
        built: the system that is to be installed.
        what: what is waited for, as in the sentence "waited for …".
        left: the boot id on which the origin was left: if it answers, it is no proof.
        leaving: the boot id of the system that is asked to reboot; empty if none is.
        check: checks that this system may be asked, and takes the lock there; raises if not.
        leave: asks it. If the link breaks meanwhile and the same boot answers again, it is asked again.
        then: says what happens next, for the message, if the origin does not come; it is given the time when the reboot
            was asked for, in seconds since 1970, or 0.
        hint: what the user can look at then, and what a Retry does.

    Raises:
        NeverCame: the origin did not answer within `reboot_return_s`; the message says what was seen last.
        UnexpectedState: another system than the origin came, or it never left.
        NotTrusted: another node, or another host key, answers.

    """
    host, log = machine.host, machine.log
    diagnosis = Diagnosis(host, plan.origin.identity, addresses=plan.origin.addresses, log=log)
    asked_at = 0.0
    asked = False

    def probe() -> Home:
        nonlocal asked, asked_at
        with returning.meet() as met:
            target = met.target
            if asked and met.who.boot_id == leaving:
                raise NotYet(STILL_ANSWERS)
            if returning.asks_node and met.who.node is None:
                raise NotYet(NO_NODE_YET)
            facts = look(target)
            diagnosis.saw(facts)
            if facts.boot_id == leaving:
                if not asked:
                    check(target, facts)
                    # Before the command: the machine may be gone before the answer arrives.
                    asked_at = clock.now()
                    leave(target)
                    asked = True
                raise NotYet(STILL_ANSWERS)
            require_home(host.name, plan, facts, target.host_key, built.toplevel, left=left)
            if facts.identity is None:
                returning.asks_node = True
                raise NotYet(NO_NODE_YET)
            away_s = round(met.at - asked_at, 1) if asked_at else None
            return Home(facts, facts.identity, target.host_key, away_s)

    log.say(f"waiting for {what}, at most {host.deadlines.reboot_return_s:.0f} s")
    try:
        with Returning(machine) as returning:
            return wait_for(
                what,
                diagnosis.watch(probe),
                deadline_s=host.deadlines.reboot_return_s,
                pause_s=PAUSE_S,
                on_change=log.say,
            )
    except NeverCame as error:
        diagnosis.look()
        raise NeverCame(
            f"{error.message} {diagnosis.summary()} {then(asked_at)}", hint=f"{diagnosis.hint()} {hint}".lstrip()
        ) from error


def ask_to_reboot(target: Connection, run_id: str, boot_id: str) -> None:
    """Let the origin reboot two seconds from now, by its own means. It first gets a note of who asked, and when.

    Args:
        target: a connection to the origin.
        run_id: the run that asks.
        boot_id: the boot that it ends.

    Raises:
        CommandFailed: its disk cannot be written, or it cannot reboot itself.

    """
    note = _Asked(run_id=run_id, boot_id=boot_id)
    make_private(target, HOLDFAST_DIR)
    target.write_file(ORIGIN_REBOOT, note.model_dump_json().encode(), mode=0o600, timeout_s=WRITE_S)
    target.run_script(script("origin/reboot.sh"), timeout_s=WRITE_S)


def was_asked(target: Connection, run_id: str, boot_id: str) -> bool:
    """Return whether this run asked the origin to reboot on an earlier boot than this one, and then broke off."""
    said = target.run(["cat", ORIGIN_REBOOT], timeout_s=WRITE_S, check=False, max_output_bytes=MAX_BYTES).stdout
    try:
        asked = _Asked.model_validate_json(said)
    except ValidationError:
        return False
    return asked.run_id == run_id and asked.boot_id != boot_id


def keep_proof(machine: Machine, run_id: str, home: Home) -> None:
    """Write on the origin that it came back, with the digest of all that decides its boot as it is now.

    Raises:
        Restarted: it was rebooted since.
        UnexpectedState: its answer about its boot is invalid.
        CommandFailed: its disk cannot be written.

    """
    with machine.on_boot(home.facts.boot_id).wait_and_connect() as target:
        fingerprint = look_back(target).boot.fingerprint
        if not fingerprint:
            machine.log.warn(f"what decides the boot of {machine.host.name} is unknown, so no proof is kept there")
            return
        proof = Proof(run_id=run_id, boot_id=home.facts.boot_id, at=round(clock.now(), 1), fingerprint=fingerprint)
        make_private(target, HOLDFAST_DIR)
        target.write_file(ORIGIN_PROVED, proof.model_dump_json().encode(), mode=0o600, timeout_s=WRITE_S)
        target.run(["rm", "-f", ORIGIN_REBOOT], timeout_s=WRITE_S)
