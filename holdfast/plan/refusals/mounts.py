"""Whether the new system's start waits for a file system that nothing makes."""

import posixpath
from typing import Final

from holdfast.plan.configuration import Configuration

_BY_UUID: Final = "/dev/disk/by-uuid/"
# fstab(5) and systemd.mount(5): with these the start goes on without it.
_OPTIONAL: Final = ("noauto", "nofail", "x-systemd.automount")


def mount_warnings(seen: Configuration) -> tuple[str, ...]:
    """Return a warning of file systems that have to be on a disk which keeps them; none if there are none.

    What disko formats gets a new UUID, and disko names it by partition or by volume. So a UUID is that of a file system
    which was there before, such as one in a hardware-configuration.nix that was written for another installation. If it
    is gone, systemd stops in emergency mode, without a network (systemd.mount(5), nofail).
    """
    waited = sorted(
        f"{posixpath.normpath(mount)} ({fs.device})"
        for mount, fs in seen.file_systems.items()
        if fs.device and fs.device.startswith(_BY_UUID) and not set(_OPTIONAL) & set(",".join(fs.options).split(","))
    )
    if not waited:
        return ()
    return (
        f"the new system does not start without {', '.join(waited):.500}, and disko makes no file system with a UUID"
        " that is known before: if a disk that is not wiped has it, all is well; else remove it there, or add nofail",
    )
