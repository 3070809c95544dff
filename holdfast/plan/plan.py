"""The plan: what an install will do to a target."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.base.text import in_markdown
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.disks import PlannedDisk, plan_disks
from holdfast.plan.fitness import Machine, in_mib, machine_of
from holdfast.plan.image import Image
from holdfast.plan.stage import Stage, observe
from holdfast.plan.verdict import Finding, judge

LONGEST_CELL: Final = 160
LONGEST_CONTENT: Final = 4000


class Login(Frozen):
    """How Holdfast logged in; what the new system has to let in again.

    Attributes:
        user: the user.
        port: TCP port of the SSH server.
        key: public key, `TYPE BASE64`; empty if it is not known.

    """

    user: str
    port: int
    key: str


class Origin(Machine):
    """The target before the install, as far as it is known: some of it is gone when the installer runs already.

    Attributes:
        boot_id: its boot id; if it does not run, from the installer's mark, else empty.
        kernel: its kernel release; empty if it does not run.
        os_name: its name for people; empty if it does not run.
        host_key: the SSH host key that answered.
        login: how Holdfast logged in.
        identity: who it is on the tailnet, or None; if it does not run, as the installer or the vault says.
        tailscale_version: its tailscaled's version.
        addresses: what its network interfaces had, `INTERFACE ADDRESS/PREFIX`.

    """

    boot_id: str
    kernel: str
    os_name: str
    host_key: str
    login: Login
    identity: Identity | None
    tailscale_version: str
    addresses: tuple[str, ...] = ()


class Plan(Frozen):
    """What will happen; holds no secret.

    Attributes:
        run_id: the run that made it.
        host: the host's name.
        attribute: the flake and attribute that are installed.
        way: whether the machine stays on the tailnet.
        stage: the stage that was seen.
        rehearsal: whether it is made for a rehearsal, which touches no disk.
        resumes: whether an installer runs in which the disks were formatted: nothing more is wiped. If it was for
            another plan, which only the built disko script tells, the install stops.
        origin: the target before the install.
        wipe: the disks that will be wiped.
        keep: the other disks.
        carries_state: whether the new system gets the node's Tailscale state.
        carried: what is carried over, in words.
        verdict: what the node shows about whether it can move, see judge.
        image: what the installer needs, in words; empty if the image is yet to be built.
        warnings: what a person should know.

    """

    run_id: str
    host: str
    attribute: str
    way: Way
    stage: Stage
    rehearsal: bool = False
    resumes: bool
    origin: Origin
    wipe: tuple[PlannedDisk, ...]
    keep: tuple[PlannedDisk, ...]
    carries_state: bool
    carried: tuple[str, ...]
    verdict: tuple[Finding, ...] = ()
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

    def formatting(self, disko_script: str) -> str:
        """Return what the detached unit that formats the disks says it does (see Plan.digest)."""
        return f"holdfast partition {self.digest(disko_script)}"

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
        verb = "Rehearse the install of" if self.rehearsal else "Install"
        lines = [f"# {verb} {_cell(self.host)}", "", f"From {_cell(self.attribute)}, the {self.way} way.", ""]
        lines += ["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts), ""]
        if self.carries_state:
            lines += ["## The identity", "", *self._verdict(), ""]
        if self.rehearsal:
            lines += ["## No disk is touched", "", "These are the disks that an install would format:", ""]
        elif self.resumes:
            lines += ["## Formatted already", ""]
        elif self.stage is Stage.FINAL:
            lines += ["## Will be wiped", "", "Unless it is the system to be installed that runs already.", ""]
        else:
            lines += ["## Will be wiped", ""]
        lines += [*_table(self.wipe), ""]
        if self.keep:
            kept = "An install would keep" if self.rehearsal else "Will not be touched"
            lines += [f"## {kept}", "", *_table(self.keep), ""]
        if self.warnings:
            lines += ["## Warnings", "", *(f"- {_cell(warning)}" for warning in self.warnings), ""]
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        """Return whether the node can move, as Markdown, with what cannot be seen on the node itself."""
        unseen = "Whether the control server holds it for ephemeral cannot be seen on it."
        if self.way is Way.STANDARD:
            unseen += " If it does, it may remove the node while the installer runs, and the state is worth nothing."
        if not self.verdict:
            return [f"Nothing that the node shows stands in its way. {unseen}"]
        head = ["| the node is | seen | what happens | what you can do |", "|---|---|---|---|"]
        rows = [
            (f"{finding.name} (refused)" if finding.lost else finding.name, finding.seen, finding.happens, finding.hint)
            for finding in self.verdict
        ]
        cells = [" | ".join(_cell(text, longest=LONGEST_CONTENT) for text in row) for row in rows]
        return [*head, *(f"| {row} |" for row in cells), "", unseen]


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
        verdict=judge(facts.tailscale, host.name, host.way, now or datetime.now(UTC))
        if carries_state and facts.tailscale.running
        else (),
        image=f"{image.path.name}: {_needs(image)}" if image else "",
        warnings=(*_warnings(host, facts, wipe), *_warnings_of_the_way(host, facts, vault_identity)),
    )


def has_live_state(facts: Facts) -> bool:
    """Say whether the installer has a Tailscale state of its own, which is newer than any in the vault.

    Whether tailscaled's file is there tells nothing: it is written before anybody has logged in.
    """
    mark = facts.installer_mark
    restored = mark is not None and mark.state == "restored"
    return observe(facts).stage is Stage.INSTALLER and (facts.identity is not None or restored)


def _origin(facts: Facts, host_key: str, login: Login, vault_identity: Identity | None) -> Origin:
    """Return what is known of the system before the install."""
    machine = machine_of(facts)
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


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _table(disks: tuple[PlannedDisk, ...]) -> list[str]:
    head = ["| device | now | by-id | serial, WWN | size | model | content |", "|---|---|---|---|---|---|---|"]
    return head + [f"| {' | '.join(_row(disk))} |" for disk in disks]


def _row(disk: PlannedDisk) -> list[str]:
    by_id = "as configured" if disk.by_id == disk.device else disk.by_id or "none"
    ids = ", ".join(dict.fromkeys(text for text in (disk.stable_id, disk.wwid) if text)) or "none"
    size = f"{_gib(disk.size_bytes)}, {disk.size_bytes} bytes"
    cells = [_cell(value) for value in (disk.device, disk.name, by_id, ids, size, disk.model)]
    # All of what would be lost, and not only its first partitions.
    return [*cells, _cell(disk.content, longest=LONGEST_CONTENT)]


def _cell(text: str, *, longest: int = LONGEST_CELL) -> str:
    return in_markdown(text, longest)
