"""Whether the new disk will have a standby, computed from the layout before anything is changed.

nix/scripts/any/standby.sh decides in the installer, and looks there at what is mounted. This asks the same questions in
the same order; tests/unit/test_standby_fit.py compares both.
"""

from typing import Final, Literal

from holdfast.base.frozen import Frozen
from holdfast.base.size import MIB
from holdfast.facts.system import Firmware
from holdfast.plan.layout import Layout, Mount, Raid

# What the starter may take on the boot partition, with the kernel that runs it (nix/kexec-tailscale/standby.nix): with
# one for x86, which is packed, and with another one.
MAX_STARTER_BYTES: Final = 64 * MIB
MAX_STARTER_UNPACKED_BYTES: Final = 128 * MIB
# What stays free there for the final system's own kernel and initrd (standby.sh: margin).
MARGIN_BYTES: Final = 96 * MIB
# The node's state, keys and the user's secrets.
HANDOVER_BYTES: Final = MIB
# How much of a fresh file system can be used, rounded down; measured with the defaults of mkfs.
_USABLE: Final = {"vfat": 0.99, "ext2": 0.85, "ext3": 0.85, "ext4": 0.85}
_USABLE_ELSE: Final = 0.9
_ROUND_TO: Final = 10 * MIB

# standby-place.sh: what extlinux boots from, and what an EFI firmware reads.
_EXTLINUX: Final = frozenset({"vfat", "ext2", "ext3", "ext4"})
_EFI_PLACES: Final = ("/boot/efi", "/efi", "/boot")
_EFI_MACHINES: Final = frozenset({"x86_64", "aarch64", "riscv64"})
_BIOS_MACHINES: Final = frozenset({"x86_64", "i686", "i586", "i486", "i386"})
# standby-store.sh: what keeps nothing on a disk.
_IN_RAM: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "devpts", "proc", "sysfs", "efivarfs"})
# What the image's starter can mount and put together (/etc/holdfast/standby/starter-mounts).
STARTER_MOUNTS: Final = frozenset({"ext4", "xfs", "btrfs", "f2fs", "vfat", "zfs"})
STARTER_LAYERS: Final = frozenset({"partition", "mdadm", "lvm", "lvm-thin"})


class Parts(Frozen):
    """Sizes of what a standby consists of, in bytes.

    Attributes:
        starter_bytes: what the boot partition starts, at most: the starter and a kernel; None if the image has none.
        installer_bytes: the image's kernel and initrd; None if the image is not built yet.

    """

    starter_bytes: int | None = MAX_STARTER_BYTES
    installer_bytes: int | None = None


class Fit(Frozen):
    """Whether a standby fits.

    Attributes:
        form: `small`: only the starter is on the boot partition, the installer on the new root; `whole`: all of it is
            on the boot partition; empty if there is none.
        boot: where the boot partition is mounted, and what it is; empty if there is none.
        why: why there is no standby; empty if there is one, or if it is not known.
        unknown: why it cannot be computed; empty if it can.
        helps: what would change that, as a sentence; empty if nothing would, or if the next two say it.
        doubt: why the firmware may not start it all the same; empty if nothing speaks for that.
        encrypted: whether there is none because the root is encrypted and `allow` does not have `state-on-boot`.
        would_do_bytes: the size of a boot partition that is large enough, if this one is not; else 0.

    """

    form: Literal["", "small", "whole"] = ""
    boot: str = ""
    why: str = ""
    unknown: str = ""
    helps: str = ""
    doubt: str = ""
    encrypted: bool = False
    would_do_bytes: int = 0


def most_starter_bytes(arch: str) -> int:
    """Return what the starter and its kernel may take on the boot partition of a machine; `arch` as in `uname -m`."""
    return MAX_STARTER_BYTES if arch in _BIOS_MACHINES else MAX_STARTER_UNPACKED_BYTES


def fit(layout: Layout | None, firmware: Firmware, arch: str, parts: Parts, *, state_on_boot: bool) -> Fit:
    """Compute whether a standby fits.

    Args:
        layout: where disko mounts what; None if that is not known.
        firmware: how the machine starts systems.
        arch: its architecture, as in `uname -m`.
        parts: the sizes.
        state_on_boot: whether the node's state may lie on the boot partition though the root is encrypted.

    """
    if layout is None or not layout.mounts:
        return Fit(unknown="the disko configuration could not be read")
    efi = firmware in ("efi", "efi32")
    boot = _boot_of_efi(layout) if efi else _boot_of_bios(layout)
    if boot is None:
        return _NO_ESP if efi else _NO_EXTLINUX
    shown = f"{boot.place} ({_in_words(boot)})"
    refused = _not_for_efi(boot, firmware, arch) if efi else _not_for_bios(boot, arch)
    if refused.why:
        return refused.model_copy(update={"boot": shown})
    encrypted = _encrypted(layout)
    store = None if encrypted or parts.starter_bytes is None else _store(layout)
    made = _room(boot, store, parts)
    if encrypted and not state_on_boot:
        why = f"{encrypted}, and the boot partition is not"
        return Fit(boot=shown, why=why, encrypted=True, would_do_bytes=made.would_do_bytes)
    return made.model_copy(update={"boot": shown, "doubt": refused.doubt if made.form else ""})


_NO_ESP: Final = Fit(
    why="no FAT file system is mounted at /boot/efi, /efi or /boot",
    helps="A partition of type EF00 with FAT, mounted at /boot, would do.",
)
_NO_EXTLINUX: Final = Fit(
    why="extlinux boots from FAT and ext2 to ext4 only, and neither is mounted at /boot or /",
    helps="A partition with ext4 or FAT, mounted at /boot, would do.",
)


def _boot_of_efi(layout: Layout) -> Mount | None:
    found = (layout.at(place) for place in _EFI_PLACES)
    return next((mount for mount in found if mount and mount.type == "vfat"), None)


def _boot_of_bios(layout: Layout) -> Mount | None:
    own = layout.at("/boot")
    found = (own or layout.at("/"), layout.at("/boot/efi"), layout.at("/efi"))
    return next((mount for mount in found if mount and mount.type in _EXTLINUX), None)


def _not_for_efi(boot: Mount, firmware: Firmware, arch: str) -> Fit:
    """Return why the firmware would not start it, or might not."""
    if arch not in _EFI_MACHINES:
        return Fit(why=f"the name of the EFI boot loader for {arch} is not known")
    if firmware == "efi32":
        return Fit(why="the firmware has 32 bits, and the image's kernel 64")
    if boot.layers == ("partition",) or (boot.layers == ("partition", "mdadm") and _is_mirror(boot.raid)):
        return Fit() if boot.volume.esp else Fit(doubt=f"{boot.place} is not marked as an EFI system partition")
    if boot.layers == ("partition", "mdadm") and boot.raid:
        array = f"an array of level {boot.raid.level or '?'} with metadata {boot.raid.metadata or '1.2'}"
        return Fit(
            why=f"the firmware cannot read {boot.place} on {array}",
            helps='An array with `level = 1` and `metadata = "1.0"` would do, or a partition of its own.',
        )
    return Fit(why=f"the firmware cannot read {boot.place} on {_on(boot)}", helps=_OF_ITS_OWN)


def _not_for_bios(boot: Mount, arch: str) -> Fit:
    """Return why a BIOS would not start it: its boot code is on the disk of that partition (standby-place.sh)."""
    if arch not in _BIOS_MACHINES:
        return Fit(why=f"the image brings no extlinux for {arch}")
    if boot.layers != ("partition",):
        return Fit(
            why=f"extlinux boots from a partition of a disk, and {boot.place} is on {_on(boot)}", helps=_OF_ITS_OWN
        )
    if boot.volume.table not in ("gpt", "msdos"):
        return Fit(why="the disk has neither a GPT nor an msdos partition table")
    if boot.volume.table == "msdos" and (boot.volume.logical or (boot.volume.number or 1) > 4):
        return Fit(why=f"{boot.place} is not on a primary partition", helps="A primary partition would do.")
    return Fit()


_OF_ITS_OWN: Final = "A partition of its own for /boot, on one disk, would do."


def _is_mirror(raid: Raid | None) -> bool:
    return raid is not None and raid.shows_file_system


def _encrypted(layout: Layout) -> str:
    """Return what is encrypted; empty if nothing is. What is on bcachefs counts: nothing tells whether it is."""
    for mount in layout.mounts:
        if mount.type in _IN_RAM:
            continue
        if mount.encrypted:
            return f"{mount.place} is encrypted"
        if mount.type == "bcachefs":
            return f"{mount.place} is bcachefs, which may be encrypted"
    return ""


def _store(layout: Layout) -> Mount | None:
    """Return where the starter finds the installer; None if it can mount neither /nix nor /."""
    for place in ("/nix", "/"):
        mount = layout.at(place)
        if mount and mount.type in STARTER_MOUNTS and STARTER_LAYERS.issuperset(mount.layers):
            return mount
    return None


def _room(boot: Mount, store: Mount | None, parts: Parts) -> Fit:
    installer = None if parts.installer_bytes is None else parts.installer_bytes + HANDOVER_BYTES
    starter = parts.starter_bytes or 0
    if store is None:
        if installer is None:
            return Fit(
                unknown=f"the whole installer has to fit on {boot.place}, and the image, whose size counts, is not here"
            )
        return _on_boot(boot, starter + installer, "whole")
    free = usable_bytes(store)
    if installer is not None and free is not None and free < installer + MARGIN_BYTES:
        return Fit(
            why=f"{store.place} is too small for the installer: {_mib(free)} MiB, and"
            f" {_mib(installer + MARGIN_BYTES, up=True)} are needed"
        )
    together = store is boot and installer is not None
    return _on_boot(boot, starter + (installer or 0 if together else 0), "small")


def _on_boot(boot: Mount, needed: int, form: Literal["small", "whole"]) -> Fit:
    needed += MARGIN_BYTES
    free = usable_bytes(boot)
    if free is None and not boot.volume.takes_rest:
        return Fit(unknown=f"the configuration does not say plainly how large {boot.place} is")
    if free is None or free >= needed:
        return Fit(form=form)
    return Fit(
        why=f"{boot.place} is too small: some {_mib(free)} MiB can be used, and {_mib(needed, up=True)} are needed",
        would_do_bytes=-(-int(needed / _usable(boot)) // _ROUND_TO) * _ROUND_TO,
    )


def usable_bytes(mount: Mount) -> int | None:
    """Return about how much of a fresh file system can be used; None if the configuration says no size."""
    size = mount.volume.size_bytes
    return None if size is None else int(size * _usable(mount))


def _usable(mount: Mount) -> float:
    return _USABLE.get(mount.type, _USABLE_ELSE)


def _on(mount: Mount) -> str:
    return " on ".join(reversed(mount.layers)) or "a disk without partitions"


def _in_words(mount: Mount) -> str:
    size = mount.volume.size_bytes
    how_large = f"{_mib(size)} MiB" if size else "the rest of its disk" if mount.volume.takes_rest else "size unknown"
    return f"{mount.type}, {how_large}"


def _mib(size_bytes: int, *, up: bool = False) -> int:
    return -(-size_bytes // MIB) if up else size_bytes // MIB
