"""The marks that Holdfast leaves on a target: in the installer, and where the disks were formatted."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import LONGEST_FACT

M = TypeVar("M", bound=Frozen)


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be shown")
    return text


# Up to the year 5138: what is beyond that, or no number, no clock can show.
_Seconds = Annotated[float, Field(ge=0, le=1e11)]
_MarkText = Annotated[str, Field(max_length=LONGEST_FACT), AfterValidator(_shown)]


class InstallerMark(Frozen):
    """What the installer's image wrote at boot; see nix/scripts/installer/installer-restore.sh.

    Attributes:
        image_id: the image.
        run_id: the run that started it; None if it was started by hand.
        origin_boot_id: boot id of the system that was left.
        state: `restored`, `none` or `refused: WHY`.
        secrets: the same, of the secrets that the user brings for the installer.
        dead_man_at: when it reboots by itself if nobody comes, in seconds since 1970 on its clock; None if never.
        dead_man_s: the same from its boot, in seconds.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    image_id: _MarkText = ""
    run_id: _MarkText | None = None
    origin_boot_id: _MarkText | None = None
    state: _MarkText
    secrets: _MarkText = "none"
    dead_man_at: _Seconds | None = None
    dead_man_s: _Seconds | None = None


class PartitionMark(Frozen):
    """Written when the disks were formatted, to the installer's RAM and to the new root.

    Attributes:
        run_id: the run that formatted them.
        plan_digest: of the plan that it followed (Plan.digest).

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    run_id: _MarkText
    plan_digest: _MarkText


def parse_mark(model: type[M], said: Mapping[str, str], name: str, broken: list[str]) -> M | None:
    """Parse a mark; one that cannot be read is somebody else's, and its name goes to `broken`."""
    if not said[name].strip():
        return None
    try:
        return model.model_validate_json(said[name])
    except ValidationError:
        broken.append(name)
        return None
