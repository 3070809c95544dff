"""What a run keeps of its flakes in its folder: their locks, the evaluation, and roots against garbage collection.

Every later attempt of the run finds them there, *Retry* included, and nix is not asked again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from holdfast.base.errors import HoldfastError
from holdfast.base.frozen import Frozen
from holdfast.inventory.host import Host
from holdfast.nixcli import commands
from holdfast.nixcli.evaluation import Evaluation, OnLine, evaluate, evaluate_file, lock_flake, read
from holdfast.plan.system import Lock

LOOK_S: Final = 20
# A garbage collection that runs meanwhile comes first.
ROOT_S: Final = 900
_EVALUATION: Final = "evaluation.json"

M = TypeVar("M", bound=Frozen)


class _Locks(Frozen):
    """The locks of a run, by the reference that was locked."""

    model_config = ConfigDict(extra="ignore")

    locks: dict[str, Lock] = Field(default_factory=dict)


class _Answer(Frozen):
    """What nix answered about one attribute of a locked flake, or of a file."""

    model_config = ConfigDict(extra="ignore")

    reference: str
    attribute: str
    answer: str


def lock_of(
    folder: Path, flake: str, *, options: Mapping[str, str] = MappingProxyType({}), on_line: OnLine | None = None
) -> Lock:
    """Return the lock of a flake that this run made, or make it now.

    Args:
        folder: the run's folder.
        flake: the reference, as the inventory has it.
        options: settings for nix (Host.nix_options).
        on_line: called with each line that nix writes.

    Raises:
        ConfigError, CommandFailed: see lock_flake.

    """
    kept = (_read(folder / "locks.json", _Locks) or _Locks()).locks
    if flake in kept:
        return kept[flake]
    lock = lock_flake(flake, options=options, on_line=on_line)
    if lock.source:
        keep([lock.source], root(folder, f"source-{len(kept)}"))
    _write(folder / "locks.json", _Locks(locks=kept | {flake: lock}))
    return lock


def is_locked(folder: Path) -> bool:
    """Return whether this run has locked a flake, or evaluated a file, and keeps to that."""
    return any((folder / name).exists() for name in ("locks.json", _EVALUATION))


def evaluation_of(folder: Path, host: Host, *, on_line: OnLine | None = None) -> Evaluation:
    """Return what this run evaluated for a host, or evaluate it now. Its derivations are kept with the folder.

    Args:
        folder: the run's folder.
        host: the host.
        on_line: called with each line that nix writes.

    Raises:
        ConfigError, CommandFailed: see lock_flake, evaluate and read.

    """
    lock = None if host.file else lock_of(folder, host.flake, options=host.nix_options, on_line=on_line)
    reference = lock.reference if lock else host.source
    kept = _read(folder / _EVALUATION, _Answer)
    if kept and (kept.reference, kept.attribute) == (reference, host.attribute):
        return read(host, lock, kept.answer)
    answer = evaluate(host, lock, on_line=on_line) if lock else evaluate_file(host, on_line=on_line)
    made = read(host, lock, answer)
    keep([part.drv for part in made.system.parts], root(folder, "derivation"))
    _write(folder / _EVALUATION, _Answer(reference=reference, attribute=host.attribute, answer=answer))
    return made


def changed_since(folder: Path) -> list[Lock]:
    """Return the locks of this run whose flakes have another content by now; one that cannot be asked has not."""
    changed = []
    for flake, lock in (_read(folder / "locks.json", _Locks) or _Locks()).locks.items():
        try:
            if lock_flake(flake, timeout_s=LOOK_S).nar_hash != lock.nar_hash:
                changed.append(lock)
        except HoldfastError:
            continue
    return changed


def root(folder: Path, name: str) -> Path:
    """Return the path of a root in a run's folder; nix adds `-1`, `-2`, … if it keeps several paths."""
    roots = folder / "roots"
    roots.mkdir(mode=0o700, exist_ok=True)
    return roots / name


def keep(paths: list[str], link: Path) -> None:
    """Protect store paths from garbage collection for as long as a link to them is there; derivations are not built.

    Raises:
        CommandFailed: a path is not in the store.

    """
    commands.run(commands.build(paths, link), timeout_s=ROOT_S)


def _read(path: Path, model: type[M]) -> M | None:
    """Read what _write wrote; None if it is not there, or another version of Holdfast wrote something else."""
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, value: Frozen) -> None:
    """Replace a file (0600) at once, whatever happens meanwhile."""
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value.model_dump(mode="json"), file)
    fresh.replace(path)
