"""Why an install is refused: the target cannot be installed as it is, or cannot run the image."""

import math
import re
from collections.abc import Callable
from datetime import datetime

from holdfast.base import clock
from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.base.places import STATE_DIR
from holdfast.base.size import MIB
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.foreign import check_foreign
from holdfast.plan.image import Image
from holdfast.plan.stage import Stage, is_foreign_installer, observe
from holdfast.plan.verdict import judge


class Capacity(Frozen):
    """What a machine has to run an image.

    Attributes:
        running: whether the origin runs; False if the installer does.
        arch: the machine's architecture.
        memory_bytes: its memory.
        available_bytes: its free memory and swap.
        upload_free_bytes: disk space for the image: what is free, and what images take that are there already.

    """

    running: bool
    arch: str
    memory_bytes: int
    available_bytes: int
    upload_free_bytes: int


def capacity_of(facts: Facts) -> Capacity:
    """Return what the target has to run an image."""
    return Capacity(
        running=observe(facts).stage is not Stage.INSTALLER,
        arch=facts.arch,
        memory_bytes=facts.memory_bytes,
        available_bytes=facts.available_bytes + facts.swap_free_bytes,
        upload_free_bytes=facts.upload_free_bytes + facts.image_bytes,
    )


def check_target(
    facts: Facts,
    host: Host,
    image: Image | None,
    *,
    toplevel: str = "",
    rehearsal: bool = False,
    now: datetime | None = None,
) -> None:
    """Refuse a target that cannot be installed, before anything is changed on it.

    Only an origin is checked for kexec. An older system that Holdfast installed is one, since it may be installed
    again; the system of the plan is not: its trial ends, or it is verified.

    Args:
        facts: what was observed.
        host: the host.
        image: the kexec image, or None if it is not built yet (check_image follows then).
        toplevel: store path of the system that the run installs; empty if it is not known.
        rehearsal: whether the install is only rehearsed.
        now: the operator's time; by default, its clock.

    Raises:
        TargetRefused: the target cannot be installed; the message says why, the hint what to do.
        UnexpectedState: it is not known which system runs there.

    """
    stage, why = observe(facts, toplevel)
    if stage is Stage.OTHER:
        raise UnexpectedState(
            f"{host.name} runs {why}.", hint="Look at the machine; reboot it if nobody else works on it."
        )
    if not facts.root:
        raise TargetRefused(
            f"the login {host.user} on {host.name} is not root.", hint="Set elevation to sudo or doas in the inventory."
        )
    if toplevel and stage is Stage.FINAL:
        return
    if stage is Stage.INSTALLER:
        check_foreign(facts, host, rehearsal=rehearsal)
        if is_foreign_installer(facts) and host.way is Way.TAILSCALE and facts.identity:
            _check_tailscale(facts, host, now or clock.utc())  # its login is what the final system gets
        return
    if facts.container:
        raise TargetRefused(
            f"{host.name} is a container ({facts.container}): it has no kernel of its own to replace.",
            hint="Install the machine that it runs on, or a virtual machine.",
        )
    _check_kexec(facts, host)
    if host.installer_secrets and host.way is Way.STANDARD:
        raise TargetRefused(
            f"{host.name} has installer_secrets, and the image of the standard way takes none.",
            hint='Choose the other way (way = "tailscale"), or remove them from the inventory.',
        )
    if host.way is Way.TAILSCALE:
        _check_tailscale(facts, host, now or clock.utc())
    elif host.keep.tailscale_state:
        _check_keepable(facts, host, now or clock.utc())
    if image is not None:
        check_image(capacity_of(facts), image, host)


def check_image(origin: Capacity, image: Image, host: Host) -> None:
    """Refuse an image that this target cannot run.

    Raises:
        TargetRefused: it is for another architecture, accepts no secrets although there are some, or needs more
            memory or disk space than there is.

    """
    if arch_family(image.arch) != arch_family(origin.arch):
        raise TargetRefused(
            f"the image {image.path.name} is for {image.arch}, and {host.name} is {origin.arch}.",
            hint="Name an image for that architecture (kexec in the inventory).",
        )
    if not origin.running:
        return
    if host.installer_secrets and not image.takes_secrets:
        raise TargetRefused(
            f"{host.name} has installer_secrets, and the image {image.path.name} takes none: it is an older one of"
            " Holdfast, or somebody else's.",
            hint="Build it again with `nix build .#kexec-tailscale`, or remove them from the inventory.",
        )
    if origin.memory_bytes < image.needed_memory_bytes:
        raise TargetRefused(
            f"{host.name} has {in_mib(origin.memory_bytes)} of memory; the installer in {image.path.name} needs about "
            f"{in_mib(image.needed_memory_bytes, up=True)}.",
            hint="Use a smaller image, or give the machine more memory.",
        )
    if origin.available_bytes < image.needed_free_bytes:
        raise TargetRefused(
            f"{host.name} has {in_mib(origin.available_bytes)} of memory and swap free; loading {image.path.name} "
            f"needs {in_mib(image.needed_free_bytes, up=True)}.",
            hint="Stop services on the target, or add swap, then retry.",
        )
    if origin.upload_free_bytes < image.needed_disk_bytes:
        raise TargetRefused(
            f"{host.name} has {in_mib(origin.upload_free_bytes)} free in /var/lib; {image.path.name} needs "
            f"{in_mib(image.needed_disk_bytes, up=True)} there.",
            hint="Make room on the target, then retry.",
        )


def _check_kexec(facts: Facts, host: Host) -> None:
    if not facts.kexec.supported:
        raise TargetRefused(
            f"the kernel of {host.name} ({facts.kernel_release}) was built without kexec.",
            hint="Boot a kernel with CONFIG_KEXEC; those of the distributions have it.",
        )
    if facts.kexec.disabled:
        raise TargetRefused(
            f"kexec is switched off on {host.name} (kernel.kexec_load_disabled or kexec_load_limit_reboot).",
            hint="Remove that from its sysctl configuration and reboot it: it cannot be switched on again before.",
        )
    if facts.kexec.locked_down:
        raise TargetRefused(
            f"the kernel of {host.name} is locked down ({facts.kexec.locked_down}) and starts signed kernels only.",
            hint="Switch off Secure Boot in the machine's firmware, or lockdown= on its kernel command line.",
        )


def _check_tailscale(facts: Facts, host: Host, now: datetime) -> None:
    tailscale = facts.tailscale
    _check_no_container(facts, host)
    if not tailscale.installed and not tailscale.running:
        raise TargetRefused(
            f"there is no Tailscale on {host.name}.",
            hint='Install it and log in there, or choose the standard way (way = "standard").',
        )
    if not tailscale.running:
        raise TargetRefused(f"tailscaled does not run on {host.name}.", hint="Start it there and log in.")
    # The state of an expired node is NeedsLogin, so this comes first.
    _check_movable(facts, host, now)
    if tailscale.identity is None:
        raise TargetRefused(
            f"{host.name} is not logged in to a tailnet (tailscaled says {tailscale.backend_state or 'nothing'}).",
            hint='Run `tailscale up` there, or choose the standard way (way = "standard").',
        )


def _check_keepable(facts: Facts, host: Host, now: datetime) -> None:
    """Refuse to lose a node in the standard way only because its tailscaled is down; no node at all is fine."""
    _check_no_container(facts, host)
    tailscale = facts.tailscale
    there = tailscale.running or (tailscale.installed and tailscale.state_kind in ("plain", "sealed"))
    if tailscale.identity is not None or (there and tailscale.expired):
        _check_movable(facts, host, now)
    elif there and tailscale.backend_state not in ("NeedsLogin", "NoState"):
        raise TargetRefused(
            f"{host.name} has Tailscale, but it is not up (tailscaled says {tailscale.backend_state or 'nothing'}):"
            " Holdfast cannot see which node it is, nor whether its state can be kept.",
            hint="Run `tailscale up` there, or give the node up with keep.tailscale_state = false.",
        )


def _check_no_container(facts: Facts, host: Host) -> None:
    """Refuse a node that a container is, whatever the system's own files and `tailscale` say."""
    kind = facts.tailscale.container
    if kind:
        a = "a container" if kind == "container" else f"a container ({kind})"
        hint = f"Install Tailscale on {host.name} itself, stop the container's, and run `tailscale up`"
        if host.way is Way.STANDARD:
            hint += "; or give the container's node up with keep.tailscale_state = false"
        raise TargetRefused(
            f"tailscaled on {host.name} runs only in {a}: that is the container's node, and what the system itself has"
            f" in {STATE_DIR} is not known to be its state.",
            hint=f"{hint}.",
        )


def _check_movable(facts: Facts, host: Host, now: datetime) -> None:
    """Refuse a node that would be lost during the install."""
    for finding in judge(facts.tailscale, host.name, host.way, now):
        if finding.lost:
            raise TargetRefused(f"{finding.seen}: {finding.happens}.", hint=finding.hint)


def arch_family(arch: str) -> str:
    """Return an architecture of `uname -m` as kexec distinguishes them: all 32-bit x86 are the same."""
    return re.sub(r"^(i[3-6]86|x86)$", "i686", {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch))


def in_mib(size_bytes: int, *, up: bool = False) -> str:
    """Return a size in MiB for people, rounded down or up."""
    to_integer: Callable[[float], int] = math.ceil if up else math.floor
    return f"{to_integer(size_bytes / MIB)} MiB"
