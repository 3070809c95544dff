"""A file system that the new system waits for, and that disko does not make, is warned of."""

import pytest

from tests.unit.cases import CONFIGURATION, host
from tests.unit.configured import check, seen

UUID = "/dev/disk/by-uuid/13fc2c6d-0000-4000-8000-000000000000"


def mounted(place: str, device: str, *options: str, kind: str = "ext4") -> dict[str, dict[str, object]]:
    return {place: {"type": kind, "device": device, "options": list(options), "needed": False}}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (mounted("/mnt/files", UUID), ["/mnt/files"]),
        (mounted("/", UUID, "defaults"), ["/"]),
        (mounted("/boot", "/dev/disk/by-uuid/4DBB-11CF", "umask=0077", kind="vfat"), ["/boot"]),
        (mounted("/b/", UUID) | mounted("/a", UUID, "noatime"), ["/a", "/b"]),
        (mounted("/mnt/files", UUID, "nofail"), []),
        (mounted("/mnt/files", UUID, "noatime,nofail"), []),
        (mounted("/mnt/files", UUID, "noauto", "x-systemd.automount"), []),
        (mounted("/mnt/files", "/dev/disk/by-partlabel/disk-data-files"), []),
        (mounted("/mnt/files", "/dev/mapper/files"), []),
        (mounted("/mnt/files", "tank/files", kind="zfs"), []),
        (mounted("/mnt/files", "/persist/files", "bind", kind="none"), []),
    ],
)
def test_file_system_that_nothing_makes(more: dict[str, dict[str, object]], named: list[str]) -> None:
    told = check(seen(file_systems=CONFIGURATION["file_systems"] | more), host())
    if not named:
        assert told == ()
        return
    (line,) = told
    assert "does not start without" in line
    assert [place for place in ("/", "/a", "/b", "/boot", "/mnt/files") if f"{place} (/dev" in line] == named
