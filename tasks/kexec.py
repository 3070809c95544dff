"""Starts the installer: uploads the image once, and lets its `kexec/run` hand over the live state."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.base import brake, clock
from holdfast.base.errors import CommandFailed, Restarted, TargetRefused, UnexpectedState
from holdfast.base.places import HOLDFAST_DIR
from holdfast.base.settings import script
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.facts import Facts
from holdfast.facts.identity import require_same_node, same_node
from holdfast.inventory.host import Host, Way
from holdfast.plan.in_use import require_free
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Started
from holdfast.plan.stage import Stage, observe
from holdfast.plan.way_in import check_way_in, make_way_in
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import reached
from holdfast.target import standby
from holdfast.target.fetching import fetch
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.private import make_private
from holdfast.target.secrets import installer_secrets
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.progress import progress
from tasks.run.this_run import hold_target, machine_of

UNPACK_S: Final = 300
RUN_S: Final = 180
# kexec/run returns this long before kexec, so that its caller learns how it ended; nixos-anywhere expects the same.
KEXEC_DELAY_S: Final = 6
LOOK_S: Final = 30
# $1 kexec/run, $2 the initrd, to which it appends the SSH host keys; the kernel has a copy when it returns. Then flags.
_STOCK: Final = f"""{script("parts/cut-to.sh")}
run=$1 initrd=$2; shift 2
length_of "$initrd" >"$initrd.length"; status=0; "$run" "$@" || status=$?; cut_back "$initrd"; rm -f "$initrd"
exit "$status"
"""
BUSY: Final = 75  # exit status of origin/start-alone.sh


@phase("kexec", settled_by="partition")
def kexec(host: Host, plan: Plan, built: Built) -> Started:
    """Upload the image, unpack it and start it.

    Raises:
        UnexpectedState: the machine is another node than the plan's.
        Restarted: the machine was rebooted meanwhile, and its origin runs.
        TargetRefused: another run works on it; it came into use since the plan was made; it lacks a program that the
            stock image's `kexec/run` needs; or the installer would not let Holdfast in (see check_way_in).
        NotTrusted: in the standard way, the machine is another node than the plan's.
        ConfigError: a secret for the installer cannot be read; nothing was started.
        CommandFailed: `kexec/run` failed; the origin runs as before.
        DeadlinePassed: the link did not return, or an earlier `kexec/run` did not end.

    """
    # On the origin's disk: RAM may be too small for a second copy. For root only: kexec/run appends secrets in place.
    folder = f"{HOLDFAST_DIR}/{built.image_sha256[:16]}"
    machine = machine_of(host, plan)
    before = wait_for(
        f"{host.name} to answer",
        lambda: _prepare(machine, plan, built, folder),
        deadline_s=host.deadlines.answer_s,
        on_change=say,
    )
    if before.skipped:
        return Started(skipped=before.skipped, origin_boot_id=before.boot_id or plan.origin.boot_id)
    _upload(machine, built, f"{folder}.tar")
    brake.check(fresh=True)
    kexec_at = _start(machine.on_boot(before.boot_id), plan, built, folder, before.flags)
    machine.let_go()
    return Started(kexec_at=kexec_at, origin_boot_id=before.boot_id)


class _Ready(NamedTuple):
    """What is known before the start of an installer.

    Attributes:
        boot_id: the boot id of the origin that will be left, or was.
        skipped: the reason why no installer has to be started.
        flags: what kexec/run is told of the way in.

    """

    boot_id: str = ""
    skipped: str = ""
    flags: tuple[str, ...] = ()


def _prepare(machine: Machine, plan: Plan, built: Built, folder: str) -> _Ready:
    """Check that it is the plan's origin, take its lock and make the folder for the image."""
    host = machine.host
    with machine.connect_over_last_way() as target:
        facts = look(target)
        stage, why = observe(facts, built.toplevel)
        if stage is not Stage.FINAL:
            require_free(host, plan, facts)
        if stage in (Stage.INSTALLER, Stage.FINAL):
            mark = facts.installer_mark
            left = (mark and mark.origin_boot_id) or ""
            return _Ready(boot_id=left, skipped=f"the {stage} system runs already")
        if stage is Stage.OTHER:
            raise UnexpectedState(f"{host.name} runs {why}.", hint="Look at it before going on.")
        if plan.foreign:
            raise UnexpectedState(
                f"{host.name} has left the installer that the plan goes on from: it runs {why}.",
                hint="Start a new run: it makes a plan for that system. Or start that installer again, then retry.",
            )
        _same_machine(host, plan, facts)
        flags = _way_in(target, host, facts, built)
        if host.way is Way.STANDARD:
            _check_programs(target, host)
        hold_target(target, facts)
        make_private(target, HOLDFAST_DIR, folder)
        room = ["sh", "-c", script("origin/make-room.sh"), "make-room.sh", folder]
        for removed in target.run(room, timeout_s=UNPACK_S, check=False).stdout.split():
            say(f"removed an image of an earlier run: {HOLDFAST_DIR}/{removed}")
    return _Ready(boot_id=facts.boot_id, flags=flags)


def _way_in(target: Connection, host: Host, facts: Facts, built: Built) -> tuple[str, ...]:
    """Require that the installer lets in whoever is in now, and return what its kexec/run is told of that."""
    way = make_way_in(reached(target, host), facts, host)
    if way is None:
        return ()
    check_way_in(way, host, takes_login=built.takes_login)
    return tuple(way.flags) if built.takes_login else ()


def _same_machine(host: Host, plan: Plan, facts: Facts) -> None:
    """Refuse to start the installer on another node than the plan's."""
    before = plan.origin.identity
    now = facts.identity
    if host.way is Way.STANDARD:
        require_same_node(host.name, before, now, hint="Nothing was changed. Start a new run, which makes a new plan.")
        return
    if not (before and now and same_node(before, now)):
        raise UnexpectedState(
            f"{host.name} is no longer the node of the plan: it is {now.describe() if now else 'no node'}, the plan has"
            f" {before.describe() if before else 'none'}.",
            hint="Nothing was changed. Start a new run, which makes a new plan.",
        )


def _upload(machine: Machine, built: Built, tarball: str) -> None:
    """Let the target fetch the image if a URL names it; else, or if that fails, upload it, unless it is there already.

    Reconnect as often as needed.
    """
    host = machine.host
    with progress(f"upload-{host.name}", "The kexec image on its way to the target") as report:
        if download := host.kexec_download:
            why = fetch(
                machine,
                download,
                tarball,
                size_bytes=Path(built.image).stat().st_size,
                sha256=built.image_sha256,
                timeout_s=host.deadlines.upload_s / 2,
                on_progress=report,
            )
            name = host.name
            say(f"{name} does not fetch the image itself, so it is uploaded: {why}" if why else f"{name} has the image")
        machine.upload(Path(built.image), tarball, timeout_s=host.deadlines.upload_s, on_progress=report)


def _check_programs(target: Connection, host: Host) -> None:
    """Check that the stock `kexec/run` finds the programs that pack the SSH keys. Without the keys nobody can log in.

    Under a shell without `pipefail`, it continues when one is missing (nixos-images' kexec-run.sh).
    """
    for program in ("cpio", "gzip"):
        found = target.run(["sh", "-c", 'command -v "$1"', "sh", program], timeout_s=LOOK_S, check=False)
        if found.exit_status:
            raise TargetRefused(
                f"there is no {program} on {host.name}, which the kexec image of the standard way needs.",
                hint=f"Install {program} there, then retry.",
            )


def _start(machine: Machine, plan: Plan, built: Built, folder: str, way_in: Sequence[str]) -> float:
    """Unpack the image and start it. Return when kexec happened, in seconds since 1970; 0 if this run did not start it.

    When the link breaks, the result of the start is lost. The next connection shows it: another boot answers, the start
    is still at work, or there is no trace of it. Only then it is started again.
    """
    host = machine.host
    secrets = installer_secrets(host)
    command = _command(host, plan, folder, len(secrets), way_in, keep=_keeps(host, built))
    dead_man = f"its dead-man is set to {host.deadlines.dead_man_s:.0f} s"
    if host.way is Way.STANDARD:
        dead_man = "it has no dead-man: if the installer does not answer, somebody has to go to the machine"
    deadline_s = host.deadlines.answer_s + UNPACK_S + RUN_S
    say(f"starting the installer on {host.name}, at most {deadline_s:.0f} s; {dead_man}")
    began_at = 0.0

    def start() -> float:
        nonlocal began_at
        alone = ["sh", "-c", script("origin/own-session.sh"), "own-session.sh"]
        alone += ["sh", "-c", script("origin/start-alone.sh"), "start-alone.sh"]
        alone += ["again" if began_at else "first", folder, *command]
        try:
            with machine.connect_over_last_way() as target:
                before, began_at = began_at, clock.now()
                result = target.run(
                    alone, timeout_s=UNPACK_S + RUN_S, stdin=secrets, on_line=machine.log.line, check=False
                )
        except Restarted:
            if _in_origin(machine.on_boot(""), built):
                raise
            return began_at
        if result.exit_status == BUSY:
            began_at = before
            raise NotYet(f"an earlier start on {host.name} has not ended")
        if result.exit_status:
            raise CommandFailed(replace(result, argv=tuple(command)))
        return clock.now()

    started_at = wait_for(f"{host.name} to start the installer", start, deadline_s=deadline_s, on_change=say)
    return started_at and started_at + KEXEC_DELAY_S


def _keeps(host: Host, built: Built) -> bool:
    """Return whether the image is to be handed over too, so that it need not be uploaded again for the standby.

    Not if the installer builds the system: it may need all of its memory for that.
    """
    return built.keeps_standby and standby.wanted(host) and not built.derivations


def _in_origin(machine: Machine, built: Built) -> bool:
    with machine.wait_and_connect() as target:
        return observe(look(target), built.toplevel).stage is Stage.ORIGIN


def _command(
    host: Host, plan: Plan, folder: str, secrets_bytes: int, way_in: Sequence[str], *, keep: bool = False
) -> list[str]:
    """Return the command that starts the unpacked installer. It reads so many bytes of secrets from standard input."""
    runner = f"{folder}/kexec/run"
    extra = ["--kexec-extra-flags", " ".join(host.kexec_extra_flags)] if host.kexec_extra_flags else []
    if host.way is Way.STANDARD:
        # A stock image does not know our flags, and leaves SSH host keys in the initrd's file.
        return ["sh", "-c", _STOCK, "start", runner, f"{folder}/kexec/initrd", *extra]
    flags = ["--run-id", plan.run_id, "--dead-man-s", f"{host.deadlines.dead_man_s:.0f}"]
    if secrets_bytes:
        flags += ["--secrets", str(secrets_bytes)]
    if keep:
        flags += ["--keep-for-standby"]
    return [runner, *flags, *extra, *way_in]
