"""The plan: what an install will do to a target."""

import hashlib
import json

from holdfast.base.frozen import Frozen
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Way
from holdfast.plan.disks import PlannedDisk
from holdfast.plan.fitness import Capacity
from holdfast.plan.stage import Stage
from holdfast.plan.verdict import Finding


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
        addresses: the addresses of its network interfaces, `INTERFACE ADDRESS/PREFIX`.

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
    """What will happen; contains no secret.

    Attributes:
        run_id: the run that made the plan.
        host: the host's name.
        attribute: the flake and attribute that are installed.
        way: whether the machine stays on the tailnet.
        stage: the stage of the target when the plan was made.
        rehearsal: whether it is for a rehearsal, which touches no disk.
        resumes: whether an installer runs that has already formatted the disks: nothing more is wiped. If it did so
            for another plan, which only the built disko script shows, the install stops.
        origin: the target before the install.
        wipe: the disks that will be wiped.
        keep: the other disks.
        carries_state: whether the final system gets the node's Tailscale state.
        carried: what is carried over, in words.
        verdict: what the node shows about whether it can move (see judge).
        image: what the installer needs, in words; empty if the image is not built yet.
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
        """Return the digest for the partition mark: of the host, its disks and how they are formatted.

        It is the same for a plan made in the origin or in the installer, by this run or another.

        Args:
            disko_script: store path of the script that formats the disks.

        """
        disks = sorted((disk.stable_id or disk.device, disk.size_bytes) for disk in self.wipe)
        return hashlib.sha256(json.dumps([self.host, disks, disko_script]).encode()).hexdigest()

    def formatting(self, disko_script: str) -> str:
        """Return the description of the detached unit that formats the disks (see Plan.digest)."""
        return f"holdfast partition {self.digest(disko_script)}"
