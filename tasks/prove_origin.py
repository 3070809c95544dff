"""Proves that the origin comes back by itself: reboots it once, before anything else depends on its return."""

from typing import Final

from holdfast.base import brake
from holdfast.base.errors import UnexpectedState
from holdfast.base.places import HOLDFAST_DIR
from holdfast.base.text import printable
from holdfast.facts.boot import Proof
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import require_start
from holdfast.plan.results import Built, OriginProved
from holdfast.plan.stage import Stage, observe
from holdfast.plan.way_back.judging import check_way_back, judge_way_back, warned_of
from holdfast.plan.way_back.row import WayBackRow
from holdfast.ssh.connection import Connection
from holdfast.tailnet.operator import path_to
from holdfast.target.dead_man import on_clock
from holdfast.target.home import ask_to_reboot, keep_proof, wait_for_origin, was_asked
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.way_back import look_back
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of, run_id

LOOK_S: Final = 60
# What started the kernel, on x86: 0xD in the high half of this byte is kexec (the kernel's boot protocol).
LOADER: Final = "/proc/sys/kernel/bootloader_type"
KEXEC: Final = 0xD
# With a device tree, as on ARM, the kernel gives the next one this mark (drivers/of/kexec.c). It does so only if that
# was loaded as a file, which kexec-tools tries first.
KEXEC_MARK: Final = "/proc/device-tree/chosen/linux,booted-from-kexec"
HINT: Final = (
    "At the machine: does its console ask for a passphrase, show a boot menu or check a file system? Does it have its"
    " network? Is tailscaled started at boot (`systemctl is-enabled tailscaled`)? Once it is back, a Retry of the run"
    " goes on, and does not reboot it again."
)


@phase("prove_origin", retries=2)
def prove_origin(host: Host, plan: Plan, built: Built) -> OriginProved:
    """Reboot the origin by its own means, unless this run has done so, and wait for it on the tailnet.

    That it came back is then kept there as a proof, for this and for later plans.

    Raises:
        TargetRefused: it would be stranded, and the inventory does not allow that; another system than the origin runs;
            or another run works on it.
        UnexpectedState: another system came back, or it came back without its firmware and its boot loader.
        NotTrusted: another node, or another host key, answers.
        DeadlinePassed: it did not answer in time; the message says what was seen last.
        CommandFailed: it cannot reboot itself, or its disk cannot be written.

    """
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        require_start(host.name, plan.run_id, facts, built.toplevel)
        if observe(facts, built.toplevel).stage is Stage.INSTALLER:
            return OriginProved(skipped="the installer runs already, so its origin has been left")
        back = look_back(target)
        doubts = judge_way_back(back, host)
        rebooted = _has_rebooted(target, plan, facts, back.boot.proved)
        if not rebooted:
            # The plan may be days old, and it is this reboot that would strand the machine.
            check_way_back(doubts, host)
    if rebooted:
        say(f"{host.name} was rebooted already since this run began: it is not rebooted again")
    else:
        brake.check(fresh=True)
        say(f"{host.name} is rebooted once, from its own system and by its own boot loader, to prove that it returns")
    home = wait_for_origin(
        machine,
        plan,
        built,
        what=f"{host.name} to come back from a reboot of its origin",
        left="" if rebooted else facts.boot_id,
        leaving="" if rebooted else facts.boot_id,
        check=hold_target,
        leave=lambda target: ask_to_reboot(target, run_id(), facts.boot_id),
        then=lambda asked_at: _where_it_is(doubts, asked_at),
        hint=HINT,
    )
    _same_system(machine.on_boot(home.facts.boot_id), plan, home.facts)
    keep_proof(machine, run_id(), home)
    path = path_to(home.identity)
    away = "" if home.away_s is None else f"; it was away {home.away_s:.1f} s"
    say(f"{host.name} came back by itself, as the same node (path: {path}){away}")
    return OriginProved(
        boot_id=home.facts.boot_id,
        kernel=home.facts.kernel_release,
        identity=home.identity,
        host_key=home.host_key,
        away_s=home.away_s,
        path=path,
    )


def _has_rebooted(target: Connection, plan: Plan, facts: Facts, proved: Proof | None) -> bool:
    """Return whether the origin was rebooted since this run began. The plan may have been made anew since."""
    if facts.boot_id != plan.origin.boot_id or (proved and proved.run_id == run_id()):
        return True
    return was_asked(target, run_id(), facts.boot_id)


def _same_system(machine: Machine, plan: Plan, facts: Facts) -> None:
    """Require the system of the plan, started by firmware and boot loader, as after a power cut.

    Raises:
        UnexpectedState: it is another system, or its reboot started it by kexec.

    """
    host, before = machine.host.name, plan.origin
    if before.os_name and facts.os_name != before.os_name:
        raise UnexpectedState(
            f"{host} came back in {facts.os_name or 'an unknown system'}, and ran {before.os_name} before.",
            hint="If that is right, start a new rehearsal: it plans for the system that runs now.",
        )
    with machine.wait_and_connect() as target:
        by_kexec = _started_by_kexec(target)
    if by_kexec:
        raise UnexpectedState(
            f"{host} came back, but its reboot started the next kernel by kexec, without firmware and boot loader: that"
            " does not show what a power cut or the installer's dead-man would start.",
            hint="Switch that off (kexec-tools: LOAD_KEXEC=false in /etc/default/kexec), then start a new rehearsal.",
        )
    if before.kernel and facts.kernel_release != before.kernel:
        warn(
            f"{host} came back with the kernel {printable(facts.kernel_release)}, and ran {printable(before.kernel)}"
            " before: the proof is of the kernel that runs now"
        )


def _started_by_kexec(target: Connection) -> bool:
    loader = target.run(["cat", LOADER], timeout_s=LOOK_S, check=False).stdout.strip()
    if loader.isdecimal() and len(loader) < 6:
        return int(loader) >> 4 == KEXEC
    return target.run(["cat", KEXEC_MARK], timeout_s=LOOK_S, check=False).exit_status == 0


def _where_it_is(seen: tuple[WayBackRow, ...], asked_at: float) -> str:
    """Return what was done to a machine that does not answer, for the message."""
    if not asked_at:
        return "It was not told to reboot by this attempt, and nothing was changed on its disks."
    said = (
        f"It was told to reboot at {on_clock(asked_at)} (operator's clock), by its own means. No installer was started,"
        f" and nothing was changed on its disks, except for a note in {HOLDFAST_DIR}."
    )
    doubts = " ".join(warned_of(seen))
    return f"{said} What was seen before: {doubts}" if doubts else said
