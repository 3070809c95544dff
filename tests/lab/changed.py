"""The user's flake with a change, as after a commit: the system to be installed is another one then."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab.runtime import Lab


@contextmanager
def changed_flake(lab: Lab) -> Iterator[None]:
    """Let the flake of the lab describe another system while the body runs; its disks stay the same."""
    file = lab.run_dir / "flake" / "etc" / "os-release"
    plain = file.read_text()
    try:
        file.write_text(f'{plain}VARIANT="after a commit"\n')
        yield
    finally:
        file.write_text(plain)
