"""The lab's flake for a host with aarch64.

Its host says that it is for aarch64, and its disk has an EFI system partition. What it builds is still the system for
x86_64: a rehearsal builds it, and never starts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab.architecture import AARCH64
from lab.final import flake_dir

_SAYS: Final = "nixpkgs.hostPlatform = { inherit system; };"


@contextmanager
def for_aarch64(run_dir: Path) -> Iterator[None]:
    """Put such a flake in the place of the lab's while the body runs."""
    file = flake_dir(run_dir, "efi") / "flake.nix"
    text = file.read_text()
    if _SAYS not in text:
        raise RuntimeError(f"{file} does not say its platform as expected")
    file.write_text(text.replace(_SAYS, f'nixpkgs.hostPlatform.system = "{AARCH64.name}-linux";'))
    try:
        yield
    finally:
        flake_dir(run_dir)
