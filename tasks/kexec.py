"""Starts the installer: uploads the image once, and lets its `kexec/run` hand the live state over."""

import time
from pathlib import Path
from typing import Final

from tasks.model.errors import UnexpectedState
from tasks.model.facts import Facts
from tasks.model.host import Host, Way
from tasks.model.plan import Plan
from tasks.model.results import Built, Started
from tasks.model.stage import Stage, observe
from tasks.phase import lines, phase, say
from tasks.progress import progress
from tasks.remote.connection import Connection
from tasks.remote.look import look
from tasks.remote.reach import reach
from tasks.tailnet.identity import same_node

# On the origin's disk, since RAM may be too small for a second copy. Root's alone: kexec/run appends secrets in place.
PLACE: Final = "/var/lib/holdfast"
UNPACK_S: Final = 300
RUN_S: Final = 180
# kexec/run returns first, so that its caller hears how it ended; nixos-anywhere expects the same.
KEXEC_DELAY_S: Final = 6


@phase("kexec")
def kexec(host: Host, plan: Plan, built: Built) -> Started:
    """Upload the image, unpack it and start it.

    Raises:
        UnexpectedState: it is another node than the plan's.
        CommandFailed: `kexec/run` failed; the origin goes on as before.

    """
    with reach(host) as target:
        facts = look(target)
        stage, why = observe(facts, built.toplevel)
        if stage in (Stage.INSTALLER, Stage.FINAL):
            return Started(skipped=f"the {stage} system runs already", origin_boot_id=plan.origin.boot_id)
        if stage is Stage.OTHER:
            raise UnexpectedState(f"{host.name} runs {why}.", hint="Look at it before going on.")
        _same_machine(host, plan, facts)
        runner = _unpacked(target, host, built)
        say(f"starting the installer on {host.name}; its dead-man is set to {host.deadlines.dead_man_s:.0f} s")
        with lines() as output:
            target.run(["setsid", "--wait", runner, *_flags(host, plan)], timeout_s=RUN_S, on_line=output.add)
    return Started(kexec_at=time.time() + KEXEC_DELAY_S, origin_boot_id=facts.boot_id)


def _same_machine(host: Host, plan: Plan, facts: Facts) -> None:
    """Refuse to start the installer on another node than the plan's."""
    before = plan.origin.identity
    now = facts.identity
    if host.way is Way.TAILSCALE and not (before and now and same_node(before, now)):
        raise UnexpectedState(
            f"{host.name} is not the node of the plan any more: it is {now.describe() if now else 'none'},"
            f" planned was {before.describe() if before else 'none'}.",
            hint="Nothing was changed. Start a new run, which makes a new plan.",
        )


def _unpacked(target: Connection, host: Host, built: Built) -> str:
    """Bring the image to the target, unless it is there, and return the path of its `kexec/run`."""
    folder = f"{PLACE}/{built.image_sha256[:16]}"
    tarball = f"{folder}.tar"
    target.run(["install", "-d", "-m", "0700", PLACE, folder], timeout_s=UNPACK_S)
    with progress(f"upload-{host.name}", "The kexec image on its way to the target") as report:
        target.upload(Path(built.image), tarball, timeout_s=host.deadlines.upload_s, on_progress=report)
    target.run(["tar", "-C", folder, "-xf", tarball, "--no-same-owner"], timeout_s=UNPACK_S)
    return f"{folder}/kexec/run"


def _flags(host: Host, plan: Plan) -> list[str]:
    """Return our flags for `kexec/run`; an image of nixos-images ignores what it does not know."""
    flags = ["--run-id", plan.run_id, "--dead-man-s", f"{host.deadlines.dead_man_s:.0f}"]
    if host.way is Way.STANDARD:
        flags += ["--state", "none", "--allow-no-state"]
    return flags
