"""The plan: what an install will do to a target, and what forbids it."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict

from tasks.model.errors import TargetRefused, UnexpectedState
from tasks.model.facts import Disk, Facts, PartitionMark
from tasks.model.host import DiskPin, Host, Way
from tasks.model.image import MIB, Image
from tasks.model.stage import Stage
from tasks.remote.text import printable
from tasks.tailnet.identity import Identity

__all__ = ["PartitionMark", "Plan", "check_image", "check_target", "make_plan", "plan_disks", "same_disks"]

STATE_DIR: Final = "/var/lib/tailscale"
KEY_MARGIN: Final = timedelta(hours=1)
LONGEST_CELL: Final = 160


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Frozen):
    """The target before the install, as far as it is known: some of it is gone when the installer runs already.

    Attributes:
        running: whether it runs now; else the installer does.
        boot_id: its boot id; if it does not run, from the installer's mark, else empty.
        kernel: its kernel release; empty if it does not run.
        os_name: its name for people; empty if it does not run.
        arch: the machine's architecture.
        memory_bytes: the machine's memory.
        available_bytes: memory and swap that were free.
        upload_free_bytes: free disk space for the image.
        host_key: the SSH host key that answered.
        identity: who it is on the tailnet, or None.
        tailscale_version: its tailscaled's version.

    """

    running: bool
    boot_id: str
    kernel: str
    os_name: str
    arch: str
    memory_bytes: int
    available_bytes: int
    upload_free_bytes: int
    host_key: str
    identity: Identity | None
    tailscale_version: str


class PlannedDisk(_Frozen):
    """A disk of the plan.

    Attributes:
        device: as the disko configuration names it; for a disk that is kept, its device file.
        name: the kernel's name when the plan was made.
        stable_id: serial number or world-wide ID.
        size_bytes: its size.
        model: its maker's name.
        content: what is on it.

    """

    device: str
    name: str
    stable_id: str
    size_bytes: int
    model: str
    content: str


class Plan(_Frozen):
    """What will happen; holds no secret.

    Attributes:
        run_id: the run that made it.
        host: the host's name.
        attribute: the flake and attribute that are installed.
        way: whether the machine stays on the tailnet.
        stage: the stage that was seen.
        resumes: whether the disks are formatted already, so that nothing more is wiped.
        origin: the target before the install.
        wipe: the disks that will be wiped.
        keep: the other disks.
        carried: what is carried over, in words.
        image: what the installer needs, in words; empty if the image is yet to be built.
        warnings: what a person should know.

    """

    run_id: str
    host: str
    attribute: str
    way: Way
    stage: Stage
    resumes: bool
    origin: Origin
    wipe: tuple[PlannedDisk, ...]
    keep: tuple[PlannedDisk, ...]
    carried: tuple[str, ...]
    image: str
    warnings: tuple[str, ...]

    def digest(self, disko_script: str) -> str:
        """Return what the partition mark names: the host, its disks and how they are formatted.

        It is the same whether the plan was made in the origin or in the installer, by this run or another.

        Args:
            disko_script: store path of the script that formats.

        """
        disks = sorted((disk.stable_id or disk.device, disk.size_bytes) for disk in self.wipe)
        return hashlib.sha256(json.dumps([self.host, disks, disko_script]).encode()).hexdigest()

    def to_markdown(self) -> str:
        """Return the plan as the artifact in Prefect's UI; text from the target is escaped."""
        origin = self.origin
        who = origin.identity.describe() if origin.identity else "not on a tailnet"
        facts = [
            ("stage", self.stage),
            ("system", f"{origin.os_name or '?'}, kernel {origin.kernel or '?'}, {origin.arch}"),
            ("memory", f"{_gib(origin.memory_bytes)}, {_gib(origin.available_bytes)} free with swap"),
            ("tailnet", who),
            ("SSH host key", origin.host_key),
            ("image", self.image or "yet to be built"),
            ("carried over", ", ".join(self.carried) or "nothing"),
        ]
        lines = [f"# Install {_cell(self.host)}", "", f"From {_cell(self.attribute)}, the {self.way} way.", ""]
        lines += ["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts), ""]
        verb = "Formatted already" if self.resumes else "Will be wiped"
        lines += [f"## {verb}", "", *_table(self.wipe), ""]
        if self.keep:
            lines += ["## Will not be touched", "", *_table(self.keep), ""]
        if self.warnings:
            lines += ["## Warnings", "", *(f"- {_cell(warning)}" for warning in self.warnings), ""]
        return "\n".join(lines)


def make_plan(
    *,
    run_id: str,
    host: Host,
    facts: Facts,
    host_key: str,
    devices: Mapping[str, str],
    image: Image | None,
) -> Plan:
    """Plan the install of a target that check_target accepted.

    Args:
        run_id: the run's id.
        host: the host.
        facts: what was observed.
        host_key: the SSH host key that answered.
        devices: the disko configuration's disks: its name for each, and the device file.
        image: the kexec image, or None if it is yet to be built.

    Raises:
        TargetRefused: a disk is missing, or is another than the inventory pins.

    """
    resumes = facts.stage is Stage.FINAL or (facts.stage is Stage.INSTALLER and facts.partition_mark is not None)
    wipe, keep = plan_disks(devices, facts, host)
    return Plan(
        run_id=run_id,
        host=host.name,
        attribute=f"{host.flake}#{host.attribute}",
        way=host.way,
        stage=facts.stage,
        resumes=resumes,
        origin=_origin(facts, host_key),
        wipe=wipe,
        keep=keep,
        carried=_carried(host, facts),
        image=f"{image.path.name}: {_needs(image)}" if image else "",
        warnings=tuple(_warnings(host, facts, wipe)),
    )


def check_target(facts: Facts, host: Host, image: Image | None, *, now: datetime | None = None) -> None:
    """Refuse a target that cannot be installed, before anything is changed on it.

    What concerns kexec is asked of the origin only; a system that Holdfast installed counts as one, since it may be
    installed anew.

    Args:
        facts: what was observed.
        host: the host.
        image: the kexec image, or None if it is yet to be built (then check_image follows).
        now: the time on the operator; by default read from its clock.

    Raises:
        TargetRefused: with one line that says what is wrong, and a hint that says what to do.
        UnexpectedState: the target is in nobody's plan.

    """
    if facts.stage is Stage.OTHER:
        raise UnexpectedState(
            f"{host.name} runs {facts.stage_why}.", hint="Look at the machine; reboot it if nobody else works on it."
        )
    if not facts.root:
        raise TargetRefused(
            f"the login {host.user} on {host.name} has no root.", hint="Set elevation to sudo or doas in the inventory."
        )
    if facts.stage is Stage.INSTALLER:
        return
    if facts.container:
        raise TargetRefused(
            f"{host.name} is a container ({facts.container}): it has no kernel of its own to replace.",
            hint="Install the machine that it runs on, or a virtual machine.",
        )
    _check_kexec(facts, host)
    if host.way is Way.TAILSCALE:
        _check_tailscale(facts, host, now or datetime.now(UTC))
    if image is not None:
        check_image(_origin(facts, ""), image, host)


def check_image(origin: Origin, image: Image, host: Host) -> None:
    """Refuse an image that this target cannot run.

    Raises:
        TargetRefused: it is for another architecture, or needs more memory or disk space than there is.

    """
    if _family(image.arch) != _family(origin.arch):
        raise TargetRefused(
            f"the image {image.path.name} is for {image.arch}, and {host.name} is {origin.arch}.",
            hint="Name an image for that architecture (kexec in the inventory).",
        )
    if not origin.running:
        return
    if origin.memory_bytes < image.needed_memory_bytes:
        raise TargetRefused(
            f"{host.name} has {_mib(origin.memory_bytes)} of memory; the installer in {image.path.name} needs about "
            f"{_mib(image.needed_memory_bytes, up=True)}.",
            hint="Use a smaller image, or give the machine more memory.",
        )
    if origin.available_bytes < image.needed_free_bytes:
        raise TargetRefused(
            f"{host.name} has {_mib(origin.available_bytes)} of memory and swap free; loading {image.path.name} needs "
            f"{_mib(image.needed_free_bytes, up=True)}.",
            hint="Stop services on the target, or add swap, then retry.",
        )
    if origin.upload_free_bytes < image.needed_disk_bytes:
        raise TargetRefused(
            f"{host.name} has {_mib(origin.upload_free_bytes)} free in /var/lib; {image.path.name} needs "
            f"{_mib(image.needed_disk_bytes, up=True)} there.",
            hint="Make room on the target, then retry.",
        )


def plan_disks(
    devices: Mapping[str, str], facts: Facts, host: Host
) -> tuple[tuple[PlannedDisk, ...], tuple[PlannedDisk, ...]]:
    """Find the disks that the disko configuration names, and say which are left alone.

    Args:
        devices: the disko configuration's disks: its name for each, and the device file.
        facts: what was observed.
        host: the host, whose pins each disk to be wiped has to match, if it has any.

    Returns:
        The disks to wipe, in the configuration's order, and all others.

    Raises:
        TargetRefused: a disk is missing, read-only, named twice, or none that the inventory pins; or a pinned disk is
            none of the configuration's.

    """
    wipe: dict[str, tuple[str, Disk]] = {}
    for label, device in devices.items():
        disk = find_disk(facts, device)
        if disk is None:
            raise TargetRefused(
                f"the disk {device} of the flake's disko configuration ({label}) is not on {host.name}.",
                hint=f"There are: {_there(facts)}. Correct the device in the flake.",
            )
        if disk.name in wipe:
            raise TargetRefused(
                f"{device} and {wipe[disk.name][0]} are the same disk of {host.name}.",
                hint="Give each disk of the disko configuration a device of its own.",
            )
        _check_disk(disk, device, host)
        wipe[disk.name] = (device, disk)
    for pin in host.disks:
        if not any(_matches(pin, disk) for _, disk in wipe.values()):
            raise TargetRefused(
                f"no disk of the flake's disko configuration is the one that the inventory names: {_pin(pin)}.",
                hint=f"There are: {_there(facts)}. Correct disks in the inventory, or the device in the flake.",
            )
    kept = [disk for disk in facts.disks if disk.name not in wipe]
    return (
        tuple(_planned(device, disk) for device, disk in wipe.values()),
        tuple(_planned(disk.path, disk) for disk in kept),
    )


def same_disks(plan: Plan, facts: Facts) -> None:
    """See that every device of the plan is still the disk that the plan names. Names may change from boot to boot.

    Raises:
        UnexpectedState: a device is missing, or is another disk.

    """
    for planned in plan.wipe:
        disk = find_disk(facts, planned.device)
        if disk is None:
            raise UnexpectedState(
                f"{planned.device}, which the plan would wipe, is not in the installer; there are: {_there(facts)}.",
                hint="Name the disk by /dev/disk/by-id in the flake; the image may lack its driver.",
            )
        if (disk.stable_id, disk.size_bytes) != (planned.stable_id, planned.size_bytes):
            raise UnexpectedState(
                f"{planned.device} is another disk in the installer ({_named(disk)}) than in the plan "
                f"({planned.stable_id or 'no serial'}, {planned.size_bytes} bytes).",
                hint="Name the disk by /dev/disk/by-id in the flake.",
            )


def find_disk(facts: Facts, device: str) -> Disk | None:
    """Return the disk behind a device file: /dev/NAME, or a link under /dev/disk."""
    return next((disk for disk in facts.disks if device == disk.path or device in disk.links), None)


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
    if not tailscale.installed and not tailscale.running:
        raise TargetRefused(
            f"there is no Tailscale on {host.name}.",
            hint='Install it and log in there, or choose the standard way (way = "standard").',
        )
    if not tailscale.running:
        raise TargetRefused(f"tailscaled does not run on {host.name}.", hint="Start it there and log in.")
    _check_carriable(facts, host)
    # The state of an expired node is NeedsLogin, so this comes first.
    expires = tailscale.key_expiry
    if tailscale.expired or (expires and expires <= now):
        when = f" at {expires:%Y-%m-%d %H:%M} UTC" if expires else ""
        raise TargetRefused(
            f"the Tailscale key of {host.name} expired{when}.", hint="Run `tailscale up --force-reauth` there."
        )
    if tailscale.identity is None:
        raise TargetRefused(
            f"{host.name} is not logged in to a tailnet (tailscaled says {tailscale.backend_state or 'nothing'}).",
            hint='Run `tailscale up` there, or choose the standard way (way = "standard").',
        )
    if expires and expires - now <= KEY_MARGIN:
        raise TargetRefused(
            f"the Tailscale key of {host.name} expires at {expires:%Y-%m-%d %H:%M} UTC, within the hour.",
            hint="Renew it first: `tailscale up --force-reauth`, or disable key expiry for this machine.",
        )


def _check_carriable(facts: Facts, host: Host) -> None:
    tailscale = facts.tailscale
    if tailscale.state_store != "file":
        where = {
            "memory": "in memory",
            "kubernetes": "in a Kubernetes secret",
            "aws": "in the AWS parameter store",
        }.get(tailscale.state_store, f"in a store named {tailscale.state_store}")
        raise TargetRefused(
            f"tailscaled on {host.name} keeps its state {where}: it cannot be carried into the installer.",
            hint=f"Start it with --state={STATE_DIR}/tailscaled.state and log in again.",
        )
    if tailscale.state_kind == "sealed":
        raise TargetRefused(
            f"the Tailscale state of {host.name} is sealed by its TPM: the installer could not open it.",
            hint="Start tailscaled there with --encrypt-state=false; it then writes the state in the clear.",
        )
    if tailscale.state_file != f"{STATE_DIR}/tailscaled.state":
        raise TargetRefused(
            f"tailscaled on {host.name} keeps its state in {tailscale.state_file}, and only {STATE_DIR} is carried.",
            hint=f"Move it to {STATE_DIR}, and start tailscaled with --state={STATE_DIR}/tailscaled.state.",
        )
    if tailscale.state_kind in ("missing", "unreadable"):
        raise TargetRefused(
            f"the Tailscale state of {host.name} ({tailscale.state_file}) is {tailscale.state_kind}.",
            hint="Look where tailscaled keeps its state there.",
        )


def _check_disk(disk: Disk, device: str, host: Host) -> None:
    if disk.readonly:
        raise TargetRefused(
            f"the disk {device} of {host.name} is read-only.", hint="Unlock it, or name another one in the flake."
        )
    if host.disks and not any(_matches(pin, disk) for pin in host.disks):
        pinned = "; ".join(_pin(pin) for pin in host.disks)
        raise TargetRefused(
            f"{device} on {host.name} is {_named(disk)}, none that the inventory allows to wipe ({pinned}).",
            hint="Correct disks in the inventory, or the device in the flake.",
        )


def _matches(pin: DiskPin, disk: Disk) -> bool:
    return (
        (pin.serial is None or pin.serial == disk.serial)
        and (pin.by_id is None or pin.by_id in disk.by_id)
        and (pin.size_bytes is None or pin.size_bytes == disk.size_bytes)
    )


def _pin(pin: DiskPin) -> str:
    said = pin.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _named(disk: Disk) -> str:
    return f"serial {disk.serial or 'unknown'}, {disk.size_bytes} bytes{f', {disk.model}' if disk.model else ''}"


def _there(facts: Facts) -> str:
    return "; ".join(f"{disk.path} ({_named(disk)})" for disk in facts.disks) or "none"


def _planned(device: str, disk: Disk) -> PlannedDisk:
    return PlannedDisk(
        device=device,
        name=disk.name,
        stable_id=disk.stable_id,
        size_bytes=disk.size_bytes,
        model=disk.model,
        content=disk.describe_content(),
    )


def _origin(facts: Facts, host_key: str) -> Origin:
    """Return what is known of the system before the install."""
    runs = facts.stage is not Stage.INSTALLER
    mark = facts.installer_mark
    return Origin(
        running=runs,
        boot_id=facts.boot_id if runs else (mark.origin_boot_id or "" if mark else ""),
        kernel=facts.kernel_release if runs else "",
        os_name=facts.os_name if runs else "",
        arch=facts.arch,
        memory_bytes=facts.memory_bytes,
        available_bytes=facts.available_bytes + facts.swap_free_bytes,
        upload_free_bytes=facts.upload_free_bytes,
        host_key=host_key,
        identity=facts.identity,
        tailscale_version=facts.tailscale.version,
    )


def _carried(host: Host, facts: Facts) -> tuple[str, ...]:
    chosen = (
        ("Tailscale state", host.carries_state and facts.identity is not None),
        ("SSH host keys", True),
        ("machine-id", host.keep.machine_id),
        (f"files of {host.extra_files}", host.extra_files is not None),
    )
    return tuple(name for name, wanted in chosen if wanted)


def _warnings(host: Host, facts: Facts, wipe: tuple[PlannedDisk, ...]) -> list[str]:
    expires = facts.tailscale.key_expiry
    found = [
        (not host.disks, "the inventory pins no disks: what the flake's disko configuration names is wiped"),
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
            facts.stage is not Stage.INSTALLER and not host.keep.tailscale_state and facts.identity is not None,
            "the new system does not keep this node's Tailscale state",
        ),
        (expires is not None, f"the node's Tailscale key expires at {expires:%Y-%m-%d %H:%M} UTC" if expires else ""),
    ]
    return [text for applies, text in found if applies]


def _needs(image: Image) -> str:
    return (
        f"{_mib(image.size_bytes)}, {image.arch}; needs about {_mib(image.needed_memory_bytes, up=True)} of memory, "
        f"{_mib(image.needed_free_bytes, up=True)} of it free"
    )


def _family(arch: str) -> str:
    """Return what kexec tells architectures apart by: every 32-bit x86 is one."""
    return re.sub(r"^(i[3-6]86|x86)$", "i686", {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch))


def _mib(size_bytes: int, *, up: bool = False) -> str:
    to_integer: Callable[[float], int] = math.ceil if up else math.floor
    return f"{to_integer(size_bytes / MIB)} MiB"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _table(disks: tuple[PlannedDisk, ...]) -> list[str]:
    head = ["| device | now | serial | size | model | content |", "|---|---|---|---:|---|---|"]
    rows = (
        (disk.device, disk.name, disk.stable_id or "none", _gib(disk.size_bytes), disk.model, disk.content)
        for disk in disks
    )
    return head + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _cell(text: str) -> str:
    """Make text harmless in a Markdown table: no markup, no HTML, no control characters, one line."""
    plain = printable(text)
    short = plain if len(plain) <= LONGEST_CELL else plain[: LONGEST_CELL - 1] + "…"
    entities = short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon behind a scheme would make a link of its own.
    return re.sub(r"([\\`*_{}\[\]()#+!|~$^=-])", r"\\\1", entities).replace("://", ":&#47;&#47;")
