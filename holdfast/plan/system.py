"""The system of a plan: the locked flake, and what one evaluation of it gives."""

from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.base.places import HOLDFAST_DIR, STATE_DIR

MACHINE_ID: Final = "/etc/machine-id"
SHORT: Final = 12


class Lock(Frozen):
    """A flake as one run uses it: whatever becomes of its folder, the reference names the same content.

    Attributes:
        flake: the reference that was locked, as the inventory has it; or the Nix file.
        reference: the locked reference: with a revision, or the store path of the copied source; or the Nix file.
        nar_hash: hash of the whole source as Nix writes it: `sha256-` and base64; of a Nix file, which may read
            anything, the hash of the derivations that it evaluated to.
        revision: the revision; for a dirty tree the one that it is based on, with `-dirty`; empty if it has none.
        source: store path of the source, if the reference names it; empty for a revision, which can be fetched again.

    """

    flake: str
    reference: str
    nar_hash: str
    revision: str = ""
    source: str = ""

    @property
    def short(self) -> str:
        """The lock for people: the start of its revision, or of its hash; a dirty tree shows both."""
        revision, _, dirty = self.revision.partition("-")
        if revision and not dirty:
            return f"revision {revision[:SHORT]}"
        content = f"content {self.nar_hash.removeprefix('sha256-')[:SHORT]}"
        return f"revision {revision[:SHORT]}, not clean, {content}" if revision else content


class Derivation(Frozen):
    """Something that can be built without evaluating anything again.

    Attributes:
        out: store path of what it builds.
        drv: store path of the derivation.

    """

    out: str
    drv: str


class Places(Frozen):
    """Where a system looks for what is carried over: behind its bind mounts, which the installer does not have.

    Attributes:
        state: the folder of Tailscale's state.
        machine_id: the file with the machine-id.
        mark: the folder of Holdfast's mark.
        host_keys: type (`ed25519`) and file of each SSH host key that is not in /etc/ssh under its usual name.

    """

    state: str = STATE_DIR
    machine_id: str = MACHINE_ID
    mark: str = HOLDFAST_DIR
    host_keys: tuple[tuple[str, str], ...] = ()


class PlannedSystem(Frozen):
    """The system that a run installs.

    Attributes:
        lock: the flake that it was evaluated from.
        toplevel: the system.
        disko_script: the script that formats and mounts.
        mount_script: the script that only mounts; None if the flake has none.
        tailscale: whether the system starts tailscaled.
        places: where it looks for what is carried over.

    """

    lock: Lock
    toplevel: Derivation
    disko_script: Derivation
    mount_script: Derivation | None = None
    tailscale: bool
    places: Places = Places()

    @property
    def parts(self) -> tuple[Derivation, ...]:
        """All that is built of it."""
        return tuple(part for part in (self.toplevel, self.disko_script, self.mount_script) if part is not None)
