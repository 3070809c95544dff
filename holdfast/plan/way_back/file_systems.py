"""Whether the origin's boot would stop at a file system."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.places import STATE_DIR
from holdfast.facts.boot import BootFacts
from holdfast.facts.file_systems import FileSystemFacts, FstabLine
from holdfast.plan.way_back.row import Verdict, WayBackRow

# systemd.mount(5) and systemd.swap(5): a boot does not wait for these, or goes on without them.
_OPTIONAL: Final = ("nofail", "noauto", "automount", "_netdev", "bind")
_NO_DISK: Final = ("swap", "tmpfs", "proc", "sysfs", "devpts", "overlay", "none", "nfs", "nfs4", "cifs", "9p", "zfs")
# A root of these is read-only by design only if fstab says so.
_WRITABLE: Final = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "bcachefs")
_CHECK: Final = "Check it from a rescue system (`fsck -f`), or reboot while somebody can reach the console."


def file_system_rows(boot: BootFacts) -> Iterator[WayBackRow]:
    """Yield where the boot would stop at a file system."""
    seen = boot.file_systems
    if boot.starting.tailscaled and seen.of_state in ("tmpfs", "ramfs"):
        yield WayBackRow(
            subject="Tailscale state",
            seen=f"{STATE_DIR} lies in RAM ({seen.of_state})",
            means="after a boot the machine would be no node of its tailnet",
            hint=f"Put {STATE_DIR} on a disk.",
            verdict=Verdict.STRANDS,
        )
    if boot.starting.tailscaled and seen.of_state == "lbu":
        yield WayBackRow(
            subject="Tailscale state",
            seen=f"{STATE_DIR} lies in RAM, and Alpine's lbu keeps it",
            means="after a boot the machine has what was committed last",
            hint="Run `lbu commit` there.",
            verdict=Verdict.UNPROVED,
        )
    yield from _root(seen)
    yield from _errors(seen)
    yield from _missing(seen, systemd=boot.starting.init == "systemd")
    yield from _hibernation(seen)


def _root(seen: FileSystemFacts) -> Iterator[WayBackRow]:
    root = next((mount for mount in reversed(seen.mounts) if mount.place == "/"), None)
    line = next((line for line in seen.fstab if line.place == "/"), None)
    if root is None or not root.read_only or root.type not in _WRITABLE:
        return
    count = next((count for _, name, count in seen.errors if name == root.device), 0)
    if count or (line and "ro" not in line.options):
        why = f", with {count} errors" if count else ""
        yield WayBackRow(
            subject="file systems",
            seen=f"the root ({root.type} on {root.device}) has become read-only{why}",
            means="the boot may stop at its check, at a prompt on the console",
            hint=_CHECK,
            verdict=Verdict.STRANDS,
        )


def _errors(seen: FileSystemFacts) -> Iterator[WayBackRow]:
    read_only = {mount.device for mount in seen.mounts if mount.place == "/" and mount.read_only}
    for kind, name, count in seen.errors:
        if name in read_only:
            continue
        if kind == "md":
            yield WayBackRow(
                subject="file systems",
                seen=f"the RAID array {name} lacks {count} of its disks",
                means="the boot may wait for them",
                hint=f"Repair it (`mdadm --detail /dev/{name}` says what is missing).",
                verdict=Verdict.UNPROVED,
            )
            continue
        place = next((f" ({mount.place})" for mount in seen.mounts if mount.device == name), "")
        yield WayBackRow(
            subject="file systems",
            seen=f"{kind} on {name}{place} has counted {count} errors",
            means="the boot may stop at its check",
            hint=_CHECK if kind == "ext4" else "Look at `btrfs device stats /`; scrub it.",
            verdict=Verdict.UNPROVED,
        )


def _missing(seen: FileSystemFacts, *, systemd: bool) -> Iterator[WayBackRow]:
    """Yield the lines of fstab that a boot waits for and that have lost their device."""
    mounted = {mount.place for mount in seen.mounts}
    lost = [line for line in seen.fstab if line.there is False and line.place not in mounted and _is_needed(line)]
    for line in lost:
        yield WayBackRow(
            subject="file systems",
            seen=f"/etc/fstab has {line.device} at {line.place}, and that device is not there",
            means="the boot would stop in emergency mode" if systemd else "the boot may stop there",
            hint=f"Remove the line of {line.place} from /etc/fstab, or add the option nofail.",
            verdict=Verdict.STRANDS if systemd else Verdict.UNPROVED,
        )


def _is_needed(line: FstabLine) -> bool:
    return line.type not in _NO_DISK and not any(option in line.options for option in _OPTIONAL)


def _hibernation(seen: FileSystemFacts) -> Iterator[WayBackRow]:
    for device, resumed in seen.hibernation:
        yield WayBackRow(
            subject="hibernation",
            seen=f"{device} holds the image of a hibernation",
            means="the next boot would resume that old state over file systems that have changed since"
            if resumed
            else "a boot that resumes it would destroy what has changed since",
            hint=f"Discard it: `mkswap` on {device}, with its UUID of now (`-U`).",
            verdict=Verdict.STRANDS if resumed else Verdict.UNPROVED,
        )
