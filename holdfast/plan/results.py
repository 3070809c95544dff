"""The result of each phase: small and frozen. Prefect keeps it as JSON and shows it; it never contains a secret."""

from typing import Literal

from holdfast.base.frozen import Frozen
from holdfast.facts.efi import EfiFacts
from holdfast.facts.identity import Identity
from holdfast.plan.system import Derivation

PathTaken = Literal["direct", "relay", "unknown"]


class Result(Frozen):
    """The base of all results.

    Attributes:
        skipped: why the phase had nothing to do; empty if it did its work.

    """

    skipped: str = ""


class HardwareReported(Result):
    """The hardware report in the user's flake.

    Attributes:
        file: its path on the operator.
        written: whether this attempt wrote a report there; a placeholder is none.

    """

    file: str = ""
    written: bool = False


class Built(Result):
    """What `build` made, or what is to be built, before the target is touched.

    Attributes:
        toplevel: store path of the system.
        disko_script: store path of the script that formats and mounts.
        mount_script: store path of the script that only mounts; empty if the flake has none.
        derivations: what the target builds by itself, in the installer; empty if all was built on the operator.
        closure_bytes: size of the system's closure; 0 if the target builds it, which is when it is known.
        image: path of the kexec tarball on the operator.
        image_sha256: its digest; the image is uploaded only once for each digest.
        tailscale: whether the system starts tailscaled.
        nix_version: version of the operator's Nix.
        takes_login, keeps_standby: see Image.

    """

    toplevel: str
    disko_script: str
    mount_script: str
    derivations: tuple[Derivation, ...] = ()
    closure_bytes: int
    image: str
    image_sha256: str
    tailscale: bool
    nix_version: str
    takes_login: bool = False
    keeps_standby: bool = False

    @property
    def scripts(self) -> tuple[str, ...]:
        """Store paths of the scripts that format and mount."""
        return tuple(path for path in (self.disko_script, self.mount_script) if path)


class Preserved(Result):
    """The state archive in the vault.

    Attributes:
        vault_entry: its path on the operator; empty if nothing was kept.
        sha256: digest of the archive.
        size_bytes: size of the archive.

    """

    vault_entry: str = ""
    sha256: str = ""
    size_bytes: int = 0


class OriginProved(Result):
    """The proof that the origin comes back from a reboot by itself.

    Attributes:
        boot_id: the boot ID on which it came back; empty if the phase was skipped.
        kernel: its kernel release then.
        identity: who it is on the tailnet.
        host_key: the SSH host key that answered.
        away_s: seconds from the reboot to SSH; None if this attempt did not ask for it.
        path: how the operator reaches it.

    """

    boot_id: str = ""
    kernel: str = ""
    identity: Identity | None = None
    host_key: str = ""
    away_s: float | None = None
    path: PathTaken = "unknown"


class Started(Result):
    """The installer was started.

    Attributes:
        kexec_at: when the origin ended, in seconds since 1970; 0 if this run did not start the installer.
        origin_boot_id: the boot ID of the origin.

    """

    kexec_at: float = 0
    origin_boot_id: str = ""


class Returned(Result):
    """The target answers from the installer.

    Attributes:
        boot_id: the installer's boot ID.
        kernel: its kernel release.
        identity: who it is on the tailnet; None in the standard way.
        away_s: seconds from kexec to SSH; None if this run did not start the installer.
        path: how the operator reaches it; `unknown` over its local address.
        over_local: whether it was reached at `local` of the inventory, not over the tailnet.
        dead_man_at: when the installer reboots into the origin by itself, in seconds since 1970 on the operator's
            clock, as of the last time it was fed; 0 if never.

    """

    boot_id: str = ""
    kernel: str = ""
    identity: Identity | None = None
    away_s: float | None = None
    path: PathTaken = "unknown"
    over_local: bool = False
    dead_man_at: float = 0


class Partitioned(Result):
    """The disks of the plan are formatted and mounted at /mnt.

    Attributes:
        formatted: whether this attempt formatted them; False if they had this plan's mark and were only mounted.

    """

    formatted: bool = False


class Installed(Result):
    """The closure is in place.

    Attributes:
        toplevel: the system that nixos-install was given.
        boot_loader: whether the boot loader is installed; False if a trial comes first.

    """

    toplevel: str = ""
    boot_loader: bool = True


class Restored(Result):
    """What was carried into the new root.

    Attributes:
        carried: what it was, as short names: `tailscale state`, `ssh host keys`, …
        identity: the node of the state that was put there; None in the standard way without state.

    """

    carried: tuple[str, ...] = ()
    identity: Identity | None = None


class Tried(Result):
    """The final system came up in its trial, and its boot loader is installed.

    Attributes:
        boot_id: the boot ID of the trial.
        kexec_at: when the installer ended, in seconds since 1970; 0 if this attempt did not start the trial.
        away_s: seconds from then to SSH; None likewise.

    """

    boot_id: str = ""
    kexec_at: float = 0
    away_s: float | None = None


class Rebooted(Result):
    """The reboot was requested.

    Attributes:
        rebooted_at: when, in seconds since 1970; 0 if the final system ran already.
        boot_id: the boot ID of the system before the reboot.
        way_back: whether a power cycle leads to the installer until `verify` has proved the new system.

    """

    rebooted_at: float = 0
    boot_id: str = ""
    way_back: bool = False


class Verified(Result):
    """The proof that the install worked.

    Attributes:
        boot_id: the final system's boot ID.
        kernel: its kernel release.
        booted: store path of the booted system.
        identity: who it is on the tailnet; None in the standard way without Tailscale.
        host_key: the SSH host key that answered.
        away_s: seconds from the reboot to SSH; None if this run did not reboot it.
        path: how the operator reaches it.
        over_local: whether it was reached at `local` of the inventory; only for a system without Tailscale.
        efi: the firmware's entries and their order, as they stay; None without UEFI, or if they are unknown.

    """

    boot_id: str
    kernel: str
    booted: str
    identity: Identity | None
    host_key: str
    away_s: float | None
    path: PathTaken
    over_local: bool = False
    efi: EfiFacts | None = None


class PostInstalled(Result):
    """The user's own command has succeeded in the final system. What it wrote is in the run's log only."""


class Finished(Result):
    """A machine that is in use has no standby any more.

    Attributes:
        efi: the firmware's entries and their order; None without UEFI, or if they are unknown.

    """

    efi: EfiFacts | None = None


class Rehearsed(Result):
    """The rehearsal that this install relies on.

    Attributes:
        run_id: its flow run.
        age_days: how long ago it ended, in days.

    """

    run_id: str = ""
    age_days: float = 0


class WentBack(Result):
    """The proof that a rehearsal worked: the origin is back.

    Attributes:
        boot_id: the origin's new boot ID.
        identity: who it is on the tailnet.
        host_key: the SSH host key that answered.
        away_s: seconds from the reboot to SSH; None if this attempt did not see the installer.
        path: how the operator reaches it.

    """

    boot_id: str
    identity: Identity
    host_key: str
    away_s: float | None
    path: PathTaken
