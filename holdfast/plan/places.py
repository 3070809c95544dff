"""Where a file of the new system really lies, and whether it is there again after a reboot."""

import posixpath
import re
from typing import Final, NamedTuple

from holdfast.base.places import HOLDFAST_DIR, STATE_DIR
from holdfast.plan.answers import FileSystem
from holdfast.plan.configuration import Configuration
from holdfast.plan.system import MACHINE_ID, Places

# Always in memory: systemd mounts them, whatever fileSystems says.
_IN_MEMORY: Final = ("/dev", "/proc", "/run", "/sys")
_DEEPEST: Final = 20
_ROLLBACK: Final = re.compile(r"\brollback\b.*?([^\s\"'@]+)@")
# Both programs take the beginnings of these words.
_SUBVOLUME: Final = re.compile(r"\b(?:btrfs|bcachefs)\s+sub\w*\s+(del\w*|snap\w*|cr\w*)\s")


class Place(NamedTuple):
    """Where a path leads to.

    Attributes:
        path: the place itself, behind all bind mounts.
        lasts: whether it is the same after a reboot, as far as the configuration shows.

    """

    path: str
    lasts: bool


def place_of(seen: Configuration, path: str) -> Place:
    """Return where a file or folder of the new system really lies, behind bind mounts, impermanence, preservation."""
    here = posixpath.normpath(path)
    binds = {
        posixpath.normpath(mount): posixpath.normpath(place)
        for mount, place in (*_binds(seen), *seen.persisted.items())
    }
    mounts = {posixpath.normpath(mount): fs for mount, fs in seen.file_systems.items()}
    for _ in range(_DEEPEST):
        mount = next((above for above in _upwards(here) if above in binds or above in mounts), "/")
        if mount not in binds:
            return Place(here, _lasts(seen, here, mount, mounts.get(mount)))
        here = posixpath.normpath(f"{binds[mount]}/{posixpath.relpath(here, mount)}")
    return Place(here, lasts=False)


def places_of(seen: Configuration) -> Places:
    """Return where the new system looks for what is carried over."""
    host_keys = ((key.type, place_of(seen, key.path)) for key in seen.host_keys)
    return Places(
        state=place_of(seen, STATE_DIR).path,
        machine_id=place_of(seen, MACHINE_ID).path,
        mark=place_of(seen, HOLDFAST_DIR).path,
        host_keys=tuple(
            (kind, place.path)
            for kind, place in host_keys
            if place.lasts and place.path != f"/etc/ssh/ssh_host_{kind}_key"
        ),
    )


def _binds(seen: Configuration) -> list[tuple[str, str]]:
    return [
        (mount, fs.device)
        for mount, fs in seen.file_systems.items()
        if fs.device and fs.device.startswith("/") and {"bind", "rbind"} & set(fs.options)
    ]


def _upwards(path: str) -> list[str]:
    """Return a path and all folders above it."""
    found = [path]
    while path != "/":
        path = posixpath.dirname(path)
        found.append(path)
    return found


def _lasts(seen: Configuration, path: str, mount: str, fs: FileSystem | None) -> bool:
    above = _upwards(path)
    if mount == "/" and set(_IN_MEMORY) & set(above):
        return False
    # systemd-volatile-root(8): `yes` and `overlay` keep nothing of the root, `state` nothing of /var.
    if (mount == "/" and {"yes", "overlay"} & set(seen.volatile)) or ("state" in seen.volatile and "/var" in above):
        return False
    return fs is None or (fs.type not in ("tmpfs", "ramfs") and not _emptied(seen, fs, is_root=mount == "/"))


def _emptied(seen: Configuration, fs: FileSystem, *, is_root: bool) -> bool:
    """Return whether the initrd empties a file system at each start.

    Its scripts are the user's own. These are the words of the ways that people use: a rollback of the dataset, another
    subvolume in the place of the old one, a new file system. What a variable names is taken for the root.
    """
    lines = [line for line in seen.initrd.lines if not line.lstrip().startswith("#")]
    if fs.type == "zfs":
        emptied = [word for line in lines for word in _ROLLBACK.findall(line)]
        return any(name == fs.device or (is_root and "$" in name) for name in emptied)
    if fs.type in ("btrfs", "bcachefs"):
        emptied = [word for line in lines for word in _replaced_subvolumes(line)]
        subvolume = _subvolume(fs)
        return any(
            (is_root and (not subvolume or posixpath.basename(name).startswith("$")))
            or (subvolume and f"/{name}".endswith(f"/{subvolume}"))
            for name in emptied
        )
    return bool(fs.device) and any("mkfs" in line and str(fs.device) in line for line in lines)


def _replaced_subvolumes(line: str) -> list[str]:
    """Return the paths of the subvolumes that a line of a script deletes or makes."""
    found = []
    for command in re.split(r"[;&|]", line):
        if (verb := _SUBVOLUME.search(command)) is None:
            continue
        words = [word.strip("\"'").rstrip("/") for word in command[verb.end() :].split() if not word.startswith("-")]
        # `delete "$1"` is what helper functions say of old copies.
        found += [word for word in words if word != "$1"] if verb[1].startswith("del") else words[-1:]
    return found


def _subvolume(fs: FileSystem) -> str:
    """Return the name of the subvolume that is mounted; empty if the options do not say."""
    named = [option.removeprefix("subvol=") for option in fs.options if option.startswith("subvol=")]
    return named[-1].strip("/") if named else ""
