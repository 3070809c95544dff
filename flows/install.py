"""The install, phase by phase. Each phase's file in `tasks/` says what it does and what it never does."""

from typing import Literal

from prefect import State, flow

from holdfast.base.settings import settings
from holdfast.inventory.loading import chosen_host
from holdfast.plan.until import Until
from tasks.approve import approve
from tasks.build import build
from tasks.finish import finish
from tasks.hardware_known import hardware_known
from tasks.install import install as install_system
from tasks.kexec import kexec
from tasks.partition import partition
from tasks.post_install import post_install
from tasks.preflight import preflight
from tasks.preserve import preserve
from tasks.reboot import reboot
from tasks.reconnect import reconnect
from tasks.rehearsed import rehearsed
from tasks.restore import restore
from tasks.run.flow import ended, reported, stop_after
from tasks.trial import trial
from tasks.verify import verify


@flow(name="install", flow_run_name="install {host}", validate_parameters=True)
@reported
def install(
    host: str,
    target: str | None = None,
    image: str | None = None,
    way: Literal["tailscale", "standard"] | None = None,
    reinstall: bool = False,
    until: Until | None = None,
) -> State[None] | None:
    """Install NixOS on a host of the inventory.

    Args:
        host: the host's name in the inventory.
        target: an address to use instead of the inventory's: a MagicDNS name or an IP address.
        image: a kexec image to use instead of the inventory's: a tarball, a folder with one, a flake's output, or a
            URL with `#sha256=HEX`.
        way: `tailscale` keeps the machine on its tailnet. With `standard` it leaves the tailnet at kexec, and the new
            system returns to it with the Tailscale state from the vault.
        reinstall: DANGER: wipes a machine that is in use, with everything on the disks of the plan. Without it, a
            machine that is installed already is left as it is. A person still has to approve the plan.
        until: stops after this phase; a later run without it continues. `build` is a dry run: it changes nothing on
            the machine. After `reconnect` the machine is in the installer, and goes back to its old system by itself.
            From `partition` on its disks are formatted.

    """
    chosen = chosen_host(settings().inventory, host, target=target, image=image, way=way)
    if chosen.hardware_report:
        hardware_known(chosen, until=until)
    plan = preflight(chosen, reinstall=reinstall, until=until)
    chosen = plan.goes_on_with(chosen)
    stop_after("preflight", chosen, plan)
    if plan.left_alone:
        finish(chosen, plan)
        return ended(plan)
    built = build(chosen, plan)
    stop_after("build", chosen, plan)
    if chosen.rehearsal_max_age_days is not None:
        rehearsed(chosen, plan, built)
    preserved = preserve(chosen, plan, built)
    stop_after("preserve", chosen, plan)
    plan = approve(chosen, plan, built)
    started = kexec(chosen, plan, built)
    reconnect(chosen, plan, built, started)
    stop_after("reconnect", chosen, plan)
    partition(chosen, plan, built)
    stop_after("partition", chosen, plan)
    installed = install_system(chosen, plan, built, preserved)
    stop_after("install", chosen, plan)
    restore(chosen, plan, built, preserved, installed)
    stop_after("restore", chosen, plan)
    trial(chosen, plan, built, installed)
    stop_after("trial", chosen, plan)
    rebooted = reboot(chosen, plan, built)
    verify(chosen, plan, built, rebooted)
    if chosen.post_install:
        post_install(chosen, plan, built)
    return None
