"""The marks that Holdfast writes on a target: in the installer, and on the new root."""

from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import LONGEST_FACT

M = TypeVar("M", bound=Frozen)

# The image in the mark of an installer that is not ours; it has no Tailscale.
STOCK: Final = "stock"


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it contains characters that are not printable")
    return text


# Up to the year 5138: a larger number would be no time that can be shown.
_Seconds = Annotated[float, Field(ge=0, le=1e11)]
_MarkText = Annotated[str, Field(max_length=LONGEST_FACT), AfterValidator(_shown)]


class InstallerMark(Frozen):
    """What the installer wrote when it booted; see nix/scripts/installer/installer-restore.sh.

    Attributes:
        image_id: the image that booted.
        run_id: the run that started it; None if it was started by hand.
        origin_boot_id: boot ID of the system before it.
        origin_mark: whether that system carried Holdfast's mark: `yes` or `no`; None if nobody said.
        origin_nixos: whether that system was a NixOS, likewise.
        origin_hostname: its host name; None if unknown.
        state: `restored`, `none` or `refused: WHY`.
        secrets: the same for the installer secrets of the user.
        dead_man_at: when it reboots by itself if nobody comes, in seconds since 1970 by its clock; None if never.
        dead_man_s: the same, in seconds since it booted.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    image_id: _MarkText = ""
    run_id: _MarkText | None = None
    origin_boot_id: _MarkText | None = None
    origin_mark: _MarkText | None = None
    origin_nixos: _MarkText | None = None
    origin_hostname: _MarkText | None = None
    state: _MarkText
    secrets: _MarkText = "none"
    dead_man_at: _Seconds | None = None
    dead_man_s: _Seconds | None = None


class PartitionMark(Frozen):
    """Written after formatting, to the installer's RAM and to the new root.

    Attributes:
        run_id: the run that formatted them.
        plan_digest: digest of the layout that the run's plan gave the disks (Plan.layout_digest).
        lock: the locked flake of that plan, for people (Lock.short).

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    run_id: _MarkText
    plan_digest: _MarkText
    lock: _MarkText = ""


def parse_mark(model: type[M], said: Mapping[str, str], name: str, broken: list[str]) -> M | None:
    """Return a mark, or None. An unreadable mark is not ours: its name is added to `broken`."""
    if not said[name].strip():
        return None
    try:
        return model.model_validate_json(said[name])
    except ValidationError:
        broken.append(name)
        return None
