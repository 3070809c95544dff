"""The report about a machine's hardware that Holdfast writes into the user's flake: by which program, and where."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from holdfast.base.frozen import Frozen

Backend = Literal["nixos-generate-config", "nixos-facter"]
_SUFFIX: Final[dict[Backend, str]] = {"nixos-generate-config": ".nix", "nixos-facter": ".json"}
_PART: Final = re.compile(r"[A-Za-z0-9_+@][A-Za-z0-9_+@. -]*")


def _inside(file: str) -> str:
    parts = PurePosixPath(file).parts
    if not parts or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError("it needs a path inside the flake, as hosts/cottage/hardware.nix")
    return "/".join(parts)


class HardwareReport(Frozen):
    """A report about the hardware of the machine, which the flake imports.

    Attributes:
        backend: the program that makes it: `nixos-generate-config`, a .nix file; or `nixos-facter`, a .json file.
        file: its place below the folder with the flake.nix, or below the folder of `file`.

    """

    backend: Backend
    file: Annotated[str, Field(max_length=1000), AfterValidator(_inside)]

    @model_validator(mode="after")
    def _suited(self) -> "HardwareReport":
        if not self.file.endswith(_SUFFIX[self.backend]):
            raise ValueError(f"a file of {self.backend} ends in {_SUFFIX[self.backend]}")
        return self
