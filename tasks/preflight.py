"""The first phase: look at the target and the tailnet, refuse what cannot work, write the plan."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from tasks.model.host import Host
from tasks.model.image import inspect_image
from tasks.model.plan import Plan, make_plan
from tasks.model.settings import settings
from tasks.model.target import check_target
from tasks.nixcli.flake import disko_devices
from tasks.phase import check_lock, lines, phase, run_id, say, warn
from tasks.remote.look import look
from tasks.remote.reach import login_of, reach
from tasks.tailnet.giving_back import check_giving_back


@phase("preflight", retries=2)
def preflight(host: Host) -> Plan:
    """Observe the target and plan the install; changes nothing.

    Raises:
        TargetRefused: this target, as it is, cannot be installed, or another run works on it.
        UnexpectedState: the lock on the target is broken.
        ConfigError: the flake or the image is wrong, or what the vault keeps could not be opened again.

    """
    with lines() as output:
        devices = disko_devices(host, on_line=output.add)
    # An image that is yet to be built is checked by the next phase, still before the target is touched.
    image = inspect_image(Path(host.kexec)) if host.kexec_is_path else None
    with reach(host, first_use=True) as target:
        facts = look(target)
        check_lock(target, facts)
        host_key, login = target.host_key, login_of(target, host)
    check_target(facts, host, image)
    plan = make_plan(
        run_id=run_id(),
        host=host,
        facts=facts,
        host_key=host_key,
        login=login,
        devices=devices,
        image=image,
        vault_identity=check_giving_back(host, facts, host_key, settings()),
    )
    for warning in plan.warnings:
        warn(warning)
    say(f"{host.name} is in stage {plan.stage}; wipes {', '.join(disk.device for disk in plan.wipe)}")
    create_markdown_artifact(plan.to_markdown(), key=f"plan-{host.name}", description="What will happen")
    return plan
