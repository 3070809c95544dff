"""Runs the user's own command in the final system, once that is proved."""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.base.places import POST_INSTALL_UNIT, POST_INSTALLED
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, PostInstalled
from holdfast.plan.stage import Stage, observe
from holdfast.target.look import look
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of

MARK_S: Final = 60
# The user's words follow. Through a shell, a program that is missing is an error of the command, not of systemd-run.
_IN_A_SHELL: Final = ("sh", "-c", 'exec "$@"', "post_install")


@phase("post_install")
def post_install(host: Host, plan: Plan, built: Built) -> PostInstalled:
    """Run `post_install` as root, and follow it to its end. Once it has succeeded there, no run starts it again.

    Raises:
        UnexpectedState: the final system does not run any more.
        TargetRefused: another run works on the target.
        CommandFailed: the command failed; the machine is installed all the same.
        DeadlinePassed: it did not end in time, and goes on there; see Deadlines.post_install_s.

    """
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        stage, why = observe(facts, built.toplevel)
        if stage is not Stage.FINAL:
            raise UnexpectedState(f"{host.name} runs {why}, not its final system.", hint="Look at it, then retry.")
        if target.run(["cat", POST_INSTALLED], timeout_s=MARK_S, check=False).exit_status == 0:
            return PostInstalled(skipped=f"it has succeeded there already ({POST_INSTALLED})")
        hold_target(target, facts)
    say(f"running post_install on {host.name}, at most {host.deadlines.post_install_s:.0f} s")
    try:
        machine.on_boot(facts.boot_id).run_detached(
            f"{POST_INSTALL_UNIT}{plan.run_id[:8]}",
            # systemd expands `$NAME` in a unit's command; `$$` is a plain `$`.
            [word.replace("$", "$$") for word in (*_IN_A_SHELL, *host.post_install)],
            work=f"holdfast post_install {_digest(host.post_install)} in {built.toplevel}",
            timeout_s=host.deadlines.post_install_s,
        )
    except CommandFailed as error:
        raise CommandFailed(
            error.result,
            message=f"{host.name} is installed and proved. Only its post_install failed: {error.message}",
            hint=f"Correct post_install in the inventory, or what it needs, then retry: the machine stays installed,"
            f" and only this command runs again. {error.hint}",
        ) from error
    with machine.wait_and_connect() as target:
        target.write_file(POST_INSTALLED, f"{plan.run_id}\n".encode(), mode=0o644, timeout_s=MARK_S, folder_mode=0o755)
    return PostInstalled()


def _digest(words: Sequence[str]) -> str:
    """Return what tells one command from another in a unit's Description, which is one line."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
