"""How a plan is made, of what was observed and what the inventory and the flake say."""

from collections.abc import Mapping
from datetime import datetime

from holdfast.base import clock
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.disks import PlannedDisk, plan_disks
from holdfast.plan.fitness import capacity_of, in_mib
from holdfast.plan.image import Image
from holdfast.plan.plan import Login, Origin, Plan
from holdfast.plan.stage import Stage, has_live_state, observe
from holdfast.plan.verdict import judge


def make_plan(
    *,
    run_id: str,
    host: Host,
    facts: Facts,
    host_key: str,
    login: Login,
    devices: Mapping[str, str],
    image: Image | None,
    vault_identity: Identity | None = None,
    rehearsal: bool = False,
    now: datetime | None = None,
) -> Plan:
    """Plan the install of a target that check_target accepted.

    Args:
        run_id: the run's id.
        host: the host.
        facts: what was observed.
        host_key: the SSH host key that answered.
        login: how Holdfast logged in.
        devices: the disko configuration's disks: its name for each, and the device file.
        image: the kexec image, or None if it is yet to be built.
        vault_identity: whose state the vault keeps, if it is needed because the installer that runs has none.
        rehearsal: whether it is only rehearsed.
        now: the time on the operator; by default read from its clock.

    Raises:
        TargetRefused: a disk is missing, or is another than the inventory pins.

    """
    resumes = observe(facts).stage is Stage.INSTALLER and facts.partition_mark is not None
    wipe, keep = plan_disks(devices, facts, host)
    origin = _origin(facts, host_key, login, vault_identity)
    # The standard way needs no Tailscale; what there is none of is not carried.
    there = host.way is Way.TAILSCALE or origin.identity is not None or has_live_state(facts)
    carries_state = host.keep.tailscale_state and there
    return Plan(
        run_id=run_id,
        host=host.name,
        attribute=f"{host.flake}#{host.attribute}",
        way=host.way,
        stage=observe(facts).stage,
        rehearsal=rehearsal,
        resumes=resumes,
        origin=origin,
        wipe=wipe,
        keep=keep,
        carries_state=carries_state,
        carried=_carried(host, facts, carries_state=carries_state),
        verdict=judge(facts.tailscale, host.name, host.way, now or clock.utc())
        if carries_state and facts.tailscale.running
        else (),
        image=f"{image.path.name}: {_needs(image)}" if image else "",
        warnings=(*_warnings(host, facts, wipe), *_warnings_of_the_way(host, facts, vault_identity)),
    )


def _origin(facts: Facts, host_key: str, login: Login, vault_identity: Identity | None) -> Origin:
    """Return what is known of the system before the install."""
    machine = capacity_of(facts)
    mark = facts.installer_mark
    return Origin(
        **machine.model_dump(),
        boot_id=facts.boot_id if machine.running else (mark.origin_boot_id or "" if mark else ""),
        kernel=facts.kernel_release if machine.running else "",
        os_name=facts.os_name if machine.running else "",
        host_key=host_key,
        login=login,
        identity=facts.identity or vault_identity,
        tailscale_version=facts.tailscale.version,
        addresses=facts.network.addresses,
    )


def _carried(host: Host, facts: Facts, *, carries_state: bool) -> tuple[str, ...]:
    from_vault = host.way is Way.STANDARD and not has_live_state(facts)
    chosen = (
        ("Tailscale state (from the vault)" if from_vault else "Tailscale state", carries_state),
        ("SSH host keys", True),
        ("machine-id", host.keep.machine_id),
        (f"files of {host.extra_files}", host.extra_files is not None),
        (", ".join(file.path for file in host.files), bool(host.files)),
    )
    return tuple(name for name, wanted in chosen if wanted)


def _warnings(host: Host, facts: Facts, wipe: tuple[PlannedDisk, ...]) -> list[str]:
    found = [
        (not host.disks, "the inventory pins no disks: an install wipes what the flake's disko configuration names"),
        (
            any(not disk.stable_id for disk in wipe),
            "a disk to be wiped has no serial number: only its size and its name tell it from others",
        ),
        (
            any(not disk.device.startswith("/dev/disk/") for disk in wipe),
            "a disk is named by the kernel's name, which may change from boot to boot; by-id is safer",
        ),
        (bool(facts.kexec.secure_boot), "Secure Boot is on: the firmware may refuse to boot the new system"),
        (
            observe(facts).stage is not Stage.INSTALLER
            and not host.keep.tailscale_state
            and facts.identity is not None,
            "the new system does not keep this node's Tailscale state",
        ),
    ]
    return [text for applies, text in found if applies]


def _warnings_of_the_way(host: Host, facts: Facts, vault_identity: Identity | None) -> list[str]:
    """Return what only a machine that leaves its tailnet has to fear."""
    if host.way is not Way.STANDARD:
        return []
    runs = observe(facts).stage is not Stage.INSTALLER
    why = facts.tailscale.backend_state or ("tailscaled does not run" if facts.tailscale.installed else "no Tailscale")
    found = [
        (
            runs,
            f"the standard way has no dead-man: if the installer does not answer at {host.target}, nothing but a"
            " person at the machine brings the old system back",
        ),
        (
            runs and host.keep.tailscale_state and facts.identity is None,
            f"it is on no tailnet ({why}): no Tailscale state is kept, the new system needs a login of its own",
        ),
        (
            vault_identity is not None,
            "the installer that runs has no Tailscale: the new system gets the newest state of this machine (it has"
            f" the same SSH host key) in the vault: {vault_identity.describe() if vault_identity else ''}",
        ),
    ]
    return [text for applies, text in found if applies]


def _needs(image: Image) -> str:
    return (
        f"{in_mib(image.size_bytes)}, {image.arch}; needs about {in_mib(image.needed_memory_bytes, up=True)} of "
        f"memory, {in_mib(image.needed_free_bytes, up=True)} of it free"
    )
