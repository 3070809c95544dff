"""Makes a plan from what was observed, the inventory and the flake."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from holdfast.base import clock
from holdfast.base.places import MARK_IN_RAM
from holdfast.base.size import MIB
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.disks import DiskoDisk, Disks, plan_disks
from holdfast.plan.fitness import capacity_of, in_mib
from holdfast.plan.foreign import goes_on_from_foreign
from holdfast.plan.image import Image
from holdfast.plan.in_use import in_use, is_left_alone, names_of, origin_known
from holdfast.plan.plan import Login, Origin, Plan
from holdfast.plan.stage import Stage, has_live_state, observe
from holdfast.plan.system import Lock, PlannedSystem
from holdfast.plan.verdict import judge

# Where device mapper's names are.
_OF_MULTIPATH: Final = ("/dev/mapper/", "/dev/disk/by-id/dm-")

# What a machine of 1 GiB has is a little more.
ENOUGH_MEMORY: Final = 960 * MIB

_BUILDS_ITSELF: Final = (
    "it builds its system itself, in the installer: only the disko script before its disks are formatted, the system"
    " after it. That the system builds, how large it is and how much memory that takes are not known now; if it does"
    " not build, the machine stays in the installer, and its old system is gone"
)


def make_plan(
    *,
    run_id: str,
    host: Host,
    facts: Facts,
    host_key: str,
    login: Login,
    devices: Mapping[str, DiskoDisk],
    system: PlannedSystem,
    builds_itself: str = "",
    image: Image | None,
    image_lock: Lock | None = None,
    vault_identity: Identity | None = None,
    rehearsal: bool = False,
    reinstall: bool = False,
    host_name: str = "",
    now: datetime | None = None,
) -> Plan:
    """Plan the install of a target that check_target accepted, or of a machine in use that is left as it is.

    Args:
        run_id: the run's id.
        host: the host.
        facts: what was observed.
        host_key: the SSH host key that answered.
        login: the login that Holdfast used.
        devices: the disks of the disko configuration, by its own name for each.
        system: the system that the evaluation of the locked flake gave.
        builds_itself: why the target builds it; empty if the operator does.
        image: the kexec image, or None if it is not built yet.
        image_lock: the lock of the flake that the image is an output of, if it is one.
        vault_identity: the node whose state in the vault is needed because the running installer has none.
        rehearsal: whether the install is only rehearsed.
        reinstall: whether the run says that a machine in use is wiped.
        host_name: the configuration's host name; empty if unknown.
        now: the operator's time; by default, its clock.

    Raises:
        TargetRefused: see plan_disks.

    """
    stage = observe(facts, system.toplevel.out).stage
    resumes = stage is Stage.INSTALLER and facts.partition_mark is not None
    foreign = goes_on_from_foreign(host, facts)
    names = names_of(host, host_name)
    left_alone = is_left_alone(facts, names, system.toplevel.out, reinstall=reinstall, rehearsal=rehearsal)
    if left_alone:
        disks = plan_disks({}, facts, host.model_copy(update={"disks": ()}))
    else:
        disks = plan_disks(devices, facts, host, formatted=resumes or stage is Stage.FINAL)
    origin = _origin(facts, host_key, login, vault_identity)
    # The standard way works without Tailscale; then there is no state to carry.
    there = host.way is Way.TAILSCALE or origin.identity is not None or has_live_state(facts)
    carries_state = host.keep.tailscale_state and there and not left_alone
    made = Plan(
        run_id=run_id,
        host=host.name,
        attribute=host.system,
        way=host.way,
        stage=stage,
        rehearsal=rehearsal,
        resumes=resumes,
        foreign=foreign,
        in_use=in_use(facts, names),
        reinstall=reinstall,
        left_alone=left_alone,
        origin_known=origin_known(facts),
        host_names=names,
        system=system,
        builds_itself=builds_itself,
        origin=origin,
        wipe=disks.wipe,
        reuse=disks.reuse,
        keep=disks.keep,
        carries_state=carries_state,
        carried=() if left_alone else _carried(host, facts, carries_state=carries_state),
        verdict=judge(facts.tailscale, host.name, host.way, now or clock.utc())
        if carries_state and facts.tailscale.running
        else (),
        image=f"{image.path.name}: {_needs(image)}" if image else "",
        image_lock=image_lock,
        warnings=()
        if left_alone
        else (
            *_warnings(host, facts, disks, stage),
            *_warnings_of_memory(facts, stage, image),
            *(_warnings_of_foreign(host, facts, vault_identity) if foreign else ()),
            *_warnings_of_the_way(host, facts, stage, vault_identity),
            *((_BUILDS_ITSELF,) if builds_itself and stage is not Stage.FINAL else ()),
        ),
    )
    return made.model_copy(update={"warnings": (*made.warnings, *_formatted_for_another(made, facts))})


def _formatted_for_another(plan: Plan, facts: Facts) -> tuple[str, ...]:
    mark = facts.partition_mark
    if not plan.resumes or plan.rehearsal or mark is None or mark.plan_digest == plan.layout_digest:
        return ()
    return (
        f"run {mark.run_id} formatted its disks for another plan: the phase partition will stop. To format them again"
        f" for this plan, remove {MARK_IN_RAM} there and start a new run",
    )


def _origin(facts: Facts, host_key: str, login: Login, vault_identity: Identity | None) -> Origin:
    """Return what is known about the system before the install."""
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
        tailscale_ssh=facts.tailscale.ssh,
        pinned_host_name=facts.tailscale.pinned_host_name,
        reported_host_name=facts.tailscale.host_name,
        firmware=facts.firmware,
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


def _warnings(host: Host, facts: Facts, disks: Disks, stage: Stage) -> list[str]:
    found = [
        (not host.disks, "the inventory pins no disks: an install wipes what the flake's disko configuration names"),
        (
            any(not disk.serial and not disk.wwid for disk in disks.wipe),
            "a disk to be wiped has no serial number: only its size and its name distinguish it from others",
        ),
        (
            any(disk.device.startswith(_OF_MULTIPATH) for disk in (*disks.wipe, *disks.reuse)),
            "a disk is named as multipathd names it: the installer knows that name only if the image runs multipathd;"
            " a wwn- link in /dev/disk/by-id is safer",
        ),
        (
            any(not disk.device.startswith(("/dev/disk/", *_OF_MULTIPATH)) for disk in (*disks.wipe, *disks.reuse)),
            "a disk is named by the kernel's name, which may change from boot to boot; by-id is safer",
        ),
        (bool(facts.kexec.secure_boot), "Secure Boot is on: the firmware may refuse to boot the final system"),
        (
            stage is Stage.ORIGIN and not host.keep.tailscale_state and facts.identity is not None,
            "the final system does not keep this node's Tailscale state",
        ),
    ]
    failing = [
        f"{disk.device} ({disk.serial or disk.wwid or 'no serial number'}) is {disk.health}"
        for disk in (*disks.wipe, *disks.reuse, *disks.keep)
        if disk.failing
    ]
    untold = facts.untold if stage is Stage.ORIGIN else ()
    return [*disks.losses, *failing, *untold, *(text for applies, text in found if applies)]


def _warnings_of_memory(facts: Facts, stage: Stage, image: Image | None) -> list[str]:
    """Return what is known of the memory while there is no image yet, whose own need is then checked (check_image)."""
    if stage is not Stage.ORIGIN or image is not None or facts.memory_bytes >= ENOUGH_MEMORY:
        return []
    return [
        f"it has {in_mib(facts.memory_bytes)} of memory, and an image of NixOS needs 800 to 1000 MiB: `build` checks"
        " that before anything is changed on the machine"
    ]


def _warnings_of_foreign(host: Host, facts: Facts, vault_identity: Identity | None) -> list[str]:
    """Return what an installer that somebody else started does not have."""
    found = [
        (
            True,
            "somebody else started this installer: it has no dead-man, and there is neither standby nor trial: if the"
            " power fails after formatting, or the new system does not come up, somebody has to go to the machine",
        ),
        (
            host.keep.tailscale_state and facts.identity is None and vault_identity is None,
            "this installer has no Tailscale login: no Tailscale state is kept, the final system needs a login of its"
            " own",
        ),
        (bool(host.installer_secrets), "its installer_secrets are not used: only Holdfast's image takes them"),
    ]
    return [text for applies, text in found if applies]


def _warnings_of_the_way(host: Host, facts: Facts, stage: Stage, vault_identity: Identity | None) -> list[str]:
    """Return the risks of a machine that leaves its tailnet."""
    if host.way is not Way.STANDARD:
        return []
    leaves = stage is Stage.ORIGIN
    why = facts.tailscale.backend_state or ("tailscaled does not run" if facts.tailscale.installed else "no Tailscale")
    found = [
        (
            leaves,
            f"the standard way has no dead-man: if the installer does not answer at {host.target}, nothing but a"
            " person at the machine brings the old system back",
        ),
        (
            leaves and host.keep.tailscale_state and facts.identity is None,
            f"it is not on a tailnet ({why}): no Tailscale state is kept, the final system needs a login of its own",
        ),
        (
            vault_identity is not None,
            "the running installer has no Tailscale: the final system gets the newest state of this machine (it has"
            f" the same SSH host key) in the vault: {vault_identity.describe() if vault_identity else ''}",
        ),
    ]
    return [text for applies, text in found if applies]


def _needs(image: Image) -> str:
    return (
        f"{in_mib(image.size_bytes)}, {image.arch}; needs about {in_mib(image.needed_memory_bytes, up=True)} of "
        f"memory, {in_mib(image.needed_free_bytes, up=True)} of it free"
    )
