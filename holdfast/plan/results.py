"""What each phase hands on: small, frozen, kept by Prefect as JSON and shown in its UI, never with a secret."""

from typing import Literal

from holdfast.base.frozen import Frozen
from holdfast.facts.identity import Identity

PathTaken = Literal["direct", "relay", "unknown"]


class Result(Frozen):
    """The base of all results.

    Attributes:
        skipped: why there was nothing to do; empty if the phase did its work.

    """

    skipped: str = ""


class Built(Result):
    """What `build` made, before the target is touched.

    Attributes:
        toplevel: store path of the system.
        disko_script: store path of the script that formats and mounts.
        mount_script: store path of the script that only mounts; empty if the flake has none.
        closure_bytes: size of the system's closure.
        image: path of the kexec tarball on the operator.
        image_sha256: its digest, by which it is uploaded once.
        tailscale: whether the system starts tailscaled.
        nix_version: the operator's Nix.

    """

    toplevel: str
    disko_script: str
    mount_script: str
    closure_bytes: int
    image: str
    image_sha256: str
    tailscale: bool
    nix_version: str


class Preserved(Result):
    """The state archive in the vault.

    Attributes:
        vault_entry: its path on the operator; empty if nothing was preserved.
        sha256: digest of the archive.
        size_bytes: size of the archive.

    """

    vault_entry: str = ""
    sha256: str = ""
    size_bytes: int = 0


class Started(Result):
    """The installer was started.

    Attributes:
        kexec_at: when the origin ended, in seconds since 1970; 0 if this run did not end it.
        origin_boot_id: the boot id of the system that was left.

    """

    kexec_at: float = 0
    origin_boot_id: str = ""


class Returned(Result):
    """The target answers from the installer.

    Attributes:
        boot_id: the installer's.
        kernel: its kernel release.
        identity: who it is on the tailnet; None in the standard way.
        away_s: from kexec to SSH; None if this run did not start the installer.
        path: how the operator reaches it; unknown over its local address.
        over_local: whether it answers at the inventory's `local`, and not over the tailnet.
        dead_man_at: when the installer reboots into the origin by itself, in seconds since 1970 on the operator's
            clock, counted from when it was fed; 0 if never.

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
        formatted: False if the mark of this plan was there and they were only mounted.

    """

    formatted: bool = False


class Installed(Result):
    """The closure is in place.

    Attributes:
        toplevel: the system that nixos-install was given.
        boot_loader: whether it has its boot loader; else its trial comes first.

    """

    toplevel: str = ""
    boot_loader: bool = True


class Restored(Result):
    """What was carried into the new root.

    Attributes:
        carried: short names: `tailscale state`, `ssh host keys`, …
        identity: who the state that was put there is; None in the standard way without state.

    """

    carried: tuple[str, ...] = ()
    identity: Identity | None = None


class Tried(Result):
    """The final system came up on its trial, and has its boot loader.

    Attributes:
        boot_id: of the trial.
        away_s: from kexec to SSH; None if this attempt did not start it.

    """

    boot_id: str = ""
    away_s: float | None = None


class Rebooted(Result):
    """The reboot was asked for.

    Attributes:
        rebooted_at: in seconds since 1970; 0 if the final system ran already.
        boot_id: of the system that was left.

    """

    rebooted_at: float = 0
    boot_id: str = ""


class Verified(Result):
    """The proof that the install worked.

    Attributes:
        boot_id: the final system's.
        kernel: its kernel release.
        booted: store path of the booted system.
        identity: who it is on the tailnet; None in the standard way without Tailscale.
        host_key: the SSH host key that answered.
        away_s: from the reboot to SSH; None if this run did not reboot it.
        path: how the operator reaches it.
        over_local: whether it was reached at the inventory's `local`; only for a system without Tailscale.

    """

    boot_id: str
    kernel: str
    booted: str
    identity: Identity | None
    host_key: str
    away_s: float | None
    path: PathTaken
    over_local: bool = False


class Rehearsed(Result):
    """The rehearsal that an install relies on.

    Attributes:
        run_id: its flow run.
        age_days: how long ago it ended, in days.

    """

    run_id: str = ""
    age_days: float = 0


class WentBack(Result):
    """The proof that a rehearsal worked: the origin is back.

    Attributes:
        boot_id: the origin's new one.
        identity: who it is on the tailnet.
        host_key: the SSH host key that answered.
        away_s: from the reboot to SSH; None if this attempt did not see the installer.
        path: how the operator reaches it.

    """

    boot_id: str
    identity: Identity
    host_key: str
    away_s: float | None
    path: PathTaken
