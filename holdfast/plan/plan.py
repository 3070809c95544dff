"""The plan: what an install will do to a target."""

import hashlib
import json

from holdfast.base.frozen import Frozen
from holdfast.facts.efi import EfiFacts
from holdfast.facts.identity import Identity
from holdfast.facts.system import Firmware
from holdfast.inventory.host import Host, Way
from holdfast.plan.disks import PlannedDisk
from holdfast.plan.fitness import Capacity
from holdfast.plan.stage import Stage
from holdfast.plan.system import Lock, PlannedSystem
from holdfast.plan.until import Until
from holdfast.plan.verdict import Finding
from holdfast.plan.way_back.row import WayBackRow
from holdfast.plan.way_in import WayIn
from holdfast.plan.way_out.row import WayOutRow


class Login(Frozen):
    """How Holdfast logged in; the final system must accept the same login.

    Attributes:
        user: the user.
        port: TCP port of the SSH server.
        key: public key, `TYPE BASE64`; empty if unknown.

    """

    user: str
    port: int
    key: str


class Origin(Capacity):
    """The target before the install, as far as known: once the installer runs, some of it is gone.

    Attributes:
        boot_id: its boot ID; if it no longer runs, from the installer's mark, else empty.
        kernel: its kernel release; empty if it no longer runs.
        os_name: its name for people; empty if it no longer runs.
        host_key: the SSH host key that answered.
        login: how Holdfast logged in.
        identity: who it is on the tailnet, or None; if it no longer runs, from the installer or the vault.
        tailscale_version: the version of its tailscaled.
        tailscale_ssh: whether its preferences switch on Tailscale's own SSH server; they move with its state.
        pinned_host_name: the host name of its preferences; empty if it reports the system's.
        reported_host_name: the host name that it reports to the control server.
        firmware: how the machine starts systems.
        addresses: the addresses of its network interfaces, `INTERFACE ADDRESS/PREFIX`.

    """

    boot_id: str
    kernel: str
    os_name: str
    host_key: str
    login: Login
    identity: Identity | None
    tailscale_version: str
    tailscale_ssh: bool = False
    pinned_host_name: str = ""
    reported_host_name: str = ""
    firmware: Firmware = "other"
    addresses: tuple[str, ...] = ()


class Plan(Frozen):
    """What will happen; contains no secret.

    Attributes:
        run_id: the run that made the plan.
        host: the host's name.
        attribute: the flake and attribute that are installed.
        way: whether the machine stays on the tailnet.
        stage: the stage of the target when the plan was made.
        rehearsal: whether it is for a rehearsal, which touches no disk.
        resumes: whether an installer runs that has already formatted the disks: nothing more is wiped. If it did so
            for another plan, the install stops at `partition`.
        foreign: whether an installer runs that somebody else started: the run goes on from there (foreign.py).
        in_use: why the machine is in use (holdfast/plan/in_use.py); empty if it is not.
        reinstall: whether the run says that a machine in use is wiped.
        cleared: whether a machine in use may be wiped: a person has approved the plan, or its formatting has begun.
        until: the phase after which the run is asked to stop; None if it goes to the end.
        left_alone: whether the machine is in use and the run ends here, with nothing changed.
        origin_known: false if an installer runs that does not say which system ran before it.
        host_names: by these names a NixOS is known as this host.
        system: what will be installed, and the locked flake that it was evaluated from.
        builds_itself: why the target builds the system, in the installer; empty if the operator does.
        origin: the target before the install.
        wipe: the disks that will be wiped.
        reuse: the disks that are used and not wiped: disko makes what is missing there, and mounts.
        keep: the other disks.
        carries_state: whether the final system gets the node's Tailscale state.
        carried: what is carried over, in words.
        verdict: what the node shows about whether it can move (see judge).
        efi: the firmware's entries and their order; None without UEFI, or if the origin does not run.
        way_in: how Holdfast logged in, and by what the installer lets it in; None in a plan of an older version.
        way_back: what brings the machine back when something goes wrong, and where nothing does (judge_way_back).
        way_out: the network of the origin, and what the installer has of it (judge_way_out).
        image: what the installer needs, in words; empty if the image is not built yet.
        image_lock: the lock of the flake that the image is an output of; None if it is a file.
        warnings: what a person should know.

    """

    run_id: str
    host: str
    attribute: str
    way: Way
    stage: Stage
    rehearsal: bool = False
    resumes: bool
    foreign: bool = False
    in_use: str = ""
    reinstall: bool = False
    cleared: bool = False
    until: Until | None = None
    left_alone: bool = False
    origin_known: bool = True
    host_names: tuple[str, ...] = ()
    system: PlannedSystem
    builds_itself: str = ""
    origin: Origin
    wipe: tuple[PlannedDisk, ...]
    reuse: tuple[PlannedDisk, ...] = ()
    keep: tuple[PlannedDisk, ...]
    carries_state: bool
    carried: tuple[str, ...]
    verdict: tuple[Finding, ...] = ()
    efi: EfiFacts | None = None
    way_in: WayIn | None = None
    way_back: tuple[WayBackRow, ...] = ()
    way_out: tuple[WayOutRow, ...] = ()
    image: str
    image_lock: Lock | None = None
    warnings: tuple[str, ...]

    @property
    def disks(self) -> tuple[PlannedDisk, ...]:
        """All disks of the machine."""
        return (*self.wipe, *self.reuse, *self.keep)

    def goes_on_with(self, host: Host) -> Host:
        """Return the host for the phases after preflight, as preflight decided it by what it saw (foreign.going_on)."""
        return host.model_copy(update={"way": self.way, "standby": host.standby and not self.foreign})

    @property
    def reinstalls(self) -> bool:
        """Whether a machine in use is wiped, once a person has approved it."""
        return bool(self.in_use) and self.reinstall

    @property
    def layout_digest(self) -> str:
        """The digest for the partition mark: of the host, its disks and how they are formatted.

        It is the same for a plan made in the origin or in the installer, by this run or another, and for every
        configuration that formats these disks in the same way.
        """
        return _digest([self.host, self._disks(), self.system.disko_script.out])

    @property
    def digest(self) -> str:
        """The digest of what a person approves: the host, its disks, the locked flake and all that is built from it."""
        locks = [[lock.reference, lock.nar_hash] if lock else None for lock in (self.system.lock, self.image_lock)]
        parts = [self.system.toplevel, self.system.disko_script, self.system.mount_script]
        built = [[part.out, part.drv] if part else None for part in parts]
        return _digest([self.host, self._disks(), locks, built])

    @property
    def formatting(self) -> str:
        """The description of the detached unit that formats the disks (see layout_digest)."""
        return f"holdfast partition {self.layout_digest}"

    def _disks(self) -> list[tuple[str, bool, int]]:
        named = [(disk, True) for disk in self.wipe] + [(disk, False) for disk in self.reuse]
        return sorted((disk.device, destroy, disk.size_bytes) for disk, destroy in named)


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
