"""The links in /dev/disk/by-id that udev would make, for a system that has no udev.

A flake names its disks by these links, which are there in the installer. An origin without udev (Alpine has mdev) has
none of them. What they are made of, the kernel tells as well. In the installer, the link counts that is there.
"""

import re
from typing import Final

from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts

# systemd's rules.d/60-persistent-storage.rules. In a link, udev writes `_` for blanks and for what is unusual in names.
_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9#+.:=@_-]+", re.ASCII)
_NAA: Final = "naa."


def has_udev(facts: Facts) -> bool:
    """Return whether udev has made links for any disk."""
    return any(link.startswith("/dev/disk/") for disk in facts.disks for link in disk.links)


def fits(disk: Disk, name: str) -> bool:
    """Return whether udev would give a disk this name in /dev/disk/by-id.

    Args:
        disk: a disk.
        name: the name, as `ata-MODEL_SERIAL`.

    """
    kind, _, rest = name.partition("-")
    serial, model, wwid = _escaped(disk.serial), _escaped(disk.model), _escaped(disk.wwid)
    number = wwid.removeprefix(_NAA) if wwid.startswith(_NAA) else ""
    match kind:
        case "virtio":
            return bool(serial) and rest == serial
        case "wwn":
            return bool(number) and rest == f"0x{number}"
        case "scsi" if number and rest == f"3{number}":  # 3: the kind of number in page 83h
            return True
        case "nvme" if wwid and rest == wwid:
            return True
        case "nvme":
            # The end is the number of the namespace, as in nvme0n1.
            return bool(serial) and rest in (f"{model}_{serial}", f"{model}_{serial}_{disk.name.rpartition('n')[2]}")
    # The kernel's model may be the start of the disk's own, and there may be a maker before it.
    return bool(serial and model) and rest.endswith(f"_{serial}") and model in rest.removesuffix(f"_{serial}")


def _escaped(text: str) -> str:
    return _UNUSUAL.sub("_", text.strip())
