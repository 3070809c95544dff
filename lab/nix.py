"""Nix for the lab's operator: Debian 13's, whatever this machine has; no /nix is made on this machine."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.toolchain import tree_command

WRAPPER = Path(__file__).with_name("nix.sh")
FAULT = "fail-closure-copy"


def nix_wrapper(run_dir: Path) -> Path:
    """Return a folder to put first on PATH: its `nix` has a store of its own in `run_dir/nix`; needs root.

    Only that program sees its store paths. `nix copy` uses the `ssh` on PATH. While the file that
    `$HOLDFAST_LAB_FAIL_COPY` names exists (not set: `run_dir/fail-closure-copy`), copies to a new root
    (`remote-store=`) fail: see `closure_copies_fail`.

    Args:
        run_dir: the lab's folder of this checkout.

    """
    home = run_dir.resolve() / "nix"
    for folder in ("bin", "nix", "root"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    values = {
        "@home@": shlex.quote(str(home)),
        "@fault@": shlex.quote(str(home.parent / FAULT)),
        "@nix@": shlex.join(tree_command("nix")),
    }
    text = WRAPPER.read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    program = home / "bin" / "nix"
    fresh = program.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(program)
    return program.parent


@contextmanager
def closure_copies_fail(run_dir: Path, name: str = FAULT) -> Iterator[Path]:
    """Let copies to a new root fail while the body runs, whatever becomes of it; hand out the file that does it."""
    fault = run_dir / name
    fault.touch()
    try:
        yield fault
    finally:
        fault.unlink(missing_ok=True)
