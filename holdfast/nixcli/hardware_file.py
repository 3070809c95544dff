"""The hardware report as a file of the user's flake: where it is, what may be replaced, and that git knows it."""

import difflib
import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from holdfast.base import process
from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.base.settings import settings
from holdfast.facts.hardware import is_placeholder
from holdfast.inventory.host import Host

GIT_S: Final = 60
LONGEST_DIFFERENCE: Final = 200
_LOCAL: Final = "Name a flake in a folder of the operator: hardware_report writes a file there."


class Place(StrEnum):
    """What was done with a report."""

    WRITTEN = "written"
    SAME = "same"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Put:
    """What was done with a report, and how it differs from what was there.

    Attributes:
        place: written; or the same was there; or what was there is somebody else's, and was kept.
        difference: from what was there to the report, in lines; empty if nothing was there, or the same.

    """

    place: Place
    difference: tuple[str, ...] = ()


def file_of(host: Host) -> Path:
    """Return where the report of a host belongs.

    Raises:
        ConfigError: the flake is not in a folder of the operator, or the path leads out of it.

    """
    assert host.hardware_report
    folder = _folder_of(host)
    path = folder / host.hardware_report.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path} leads out of {folder}.", hint="A link does that: Nix would not see the file. Name another one."
        )
    return path


def read_report(host: Host) -> str:
    """Return the report that the flake of a host has; empty if there is none.

    Raises:
        ConfigError: see file_of; or it cannot be read.

    """
    path = file_of(host)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", hint="Look at it on the operator.") from error


def check_report(host: Host) -> str:
    """Return a warning for the plan if the report of a host is only a placeholder; empty for nothing to warn of.

    Raises:
        ConfigError: it has hardware_report, and the flake does not have the file.

    """
    if host.hardware_report is None:
        return ""
    text = read_report(host)
    if not text:
        raise ConfigError(f"{file_of(host)} is not there yet.", hint=how_to_get_one(host))
    if is_placeholder(text):
        return f"{host.hardware_report.file} only stands for a hardware report. {how_to_get_one(host)}"
    return ""


def how_to_get_one(host: Host) -> str:
    """Return what the user does to get a report from a machine that cannot make one in its origin."""
    return (
        f"Run `just rehearse {host.name}`, or `just install {host.name} --until=reconnect`: in the installer the report"
        " can be made."
    )


def put_report(host: Host, text: str) -> Put:
    """Write a report into the flake of a host, unless somebody else's file is there.

    Replaced are a placeholder, and what Holdfast wrote and nobody has changed since.

    Args:
        host: the host.
        text: the report, or a placeholder.

    Raises:
        ConfigError: see file_of and read_report; or it cannot be written, or git does not take it.

    """
    path, there = file_of(host), read_report(host)
    if there == text:
        _tell_git(host, path)
        return Put(Place.SAME)
    difference = difflib.unified_diff(there.splitlines(), text.splitlines(), "what is there", "the report", lineterm="")
    shown = tuple(difference)[:LONGEST_DIFFERENCE] if there else ()
    if there and not is_placeholder(there) and _digest(there) != _last_written(host):
        return Put(Place.KEPT, shown)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
        _remember(host, text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", hint="Run it as the flake's owner."
        ) from error
    _tell_git(host, path)
    return Put(Place.WRITTEN, shown)


def _folder_of(host: Host) -> Path:
    if host.file:
        return host.file if host.file.is_dir() else host.file.parent
    reference, _, query = host.flake.partition("?")
    asked = parse_qs(query)
    path = reference.removeprefix("git+file://").removeprefix("git+file:").removeprefix("path:")
    if not path.startswith(("/", ".")):
        raise ConfigError(f"the flake {host.flake} is not in a folder of the operator.", hint=_LOCAL)
    if not asked.keys() <= {"dir", "submodules"}:
        raise ConfigError(f"the flake {host.flake} is a fixed revision: a file in it would not be seen.", hint=_LOCAL)
    folder = Path(path, *asked.get("dir", ()))
    if not (folder / "flake.nix").is_file():
        raise ConfigError(f"there is no {folder / 'flake.nix'}.", hint=_LOCAL)
    return folder


def _tell_git(host: Host, path: Path) -> None:
    """Let git know the file: Nix sees no other one in a flake that is a git tree."""
    if host.file or host.flake.startswith("path:"):
        return
    if not any((folder / ".git").exists() for folder in path.absolute().parents):
        return
    command = ["git", "-C", str(path.parent), "add", "--intent-to-add", "--force", "--", path.name]
    try:
        process.run_local(command, timeout_s=GIT_S, if_missing="Install git: Nix sees only files that git knows.")
    except CommandFailed as error:
        error.hint = f"Nix sees only files that git knows. Run it by hand: git add {path}"
        raise


def _replace(path: Path, text: str) -> None:
    """Write a file at once, whatever happens meanwhile; it gets the mode that the user's new files get."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    if path.exists():
        fresh.chmod(path.stat().st_mode & 0o777)
    fresh.replace(path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record_of(host: Host) -> Path:
    return settings().state_dir / "hardware" / f"{host.name}.sha256"


def _last_written(host: Host) -> str:
    try:
        return _record_of(host).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _remember(host: Host, text: str) -> None:
    record = _record_of(host)
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{_digest(text)}\n")
