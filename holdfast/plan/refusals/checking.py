"""Refuses a configuration with which a machine would not come back, or not as the one that it was."""

from collections.abc import Iterator

from holdfast.base.errors import ConfigError
from holdfast.inventory.host import Host
from holdfast.plan.configuration import Configuration
from holdfast.plan.fitness import arch_family
from holdfast.plan.plan import Plan
from holdfast.plan.refusals.boot import boot_loader
from holdfast.plan.refusals.login import login
from holdfast.plan.refusals.mounts import mount_warnings
from holdfast.plan.refusals.naming import renamed
from holdfast.plan.refusals.refusal import Refusal
from holdfast.plan.refusals.staying import staying, staying_warnings
from holdfast.plan.refusals.unlocking import unlocking, unlocking_warnings


def check_configuration(seen: Configuration, host: Host, plan: Plan, *, sudo_password: bool = False) -> tuple[str, ...]:
    """Refuse a configuration with which the machine would not come back.

    Args:
        seen: the configuration.
        host: the host.
        plan: its plan.
        sudo_password: whether Holdfast knows a password for sudo.

    Returns:
        The refusals that the inventory overrides, and what else a person should know, one line each.

    Raises:
        ConfigError: the first reason, with a hint and, if there is one, the word for `allow`.

    """
    said = []
    for allowance, message, hint in _refusals(seen, host, plan, sudo_password=sudo_password):
        if allowance is None:
            raise ConfigError(message, hint=hint)
        if allowance not in host.allow:
            known = f'If you know better, add "{allowance}" to allow in the inventory.'
            raise ConfigError(message, hint=f"{hint} {known}")
        said.append(f"{message} The inventory allows it ({allowance}).")
    warned = (*unlocking_warnings(seen, host), *mount_warnings(seen), *staying_warnings(seen, host))
    return (*said, *renamed(seen, plan), *warned)


def _refusals(seen: Configuration, host: Host, plan: Plan, *, sudo_password: bool) -> Iterator[Refusal]:
    name = f"the configuration {plan.attribute}"
    if not seen.disko_script:
        yield Refusal(
            None,
            f"{name} has no system.build.diskoScript.",
            "Import disko's module (disko.nixosModules.disko) and describe the disks in disko.devices.",
        )
    system = seen.system.rpartition("-")[0]
    if system and arch_family(system) != arch_family(plan.origin.arch):
        yield Refusal(
            None,
            f"{name} is for {seen.system}, and {host.name} is {plan.origin.arch}.",
            f'Set nixpkgs.hostPlatform = "{arch_family(plan.origin.arch)}-linux" there.',
        )
    if plan.carries_state and not seen.tailscale:
        yield Refusal(
            "no-tailscale",
            f"{name} does not start Tailscale: {host.name} would not come back on its tailnet.",
            "Set services.tailscale.enable = true there, or keep.tailscale_state = false in the inventory.",
        )
    yield from login(seen, host, plan, name, sudo_password=sudo_password)
    yield from boot_loader(seen, host, plan, name)
    yield from unlocking(seen, host, name)
    yield from staying(seen, host, plan, name)
