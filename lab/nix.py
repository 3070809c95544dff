"""Nix for the lab's operator: Debian 13's, whatever this machine has; no /nix is made on this machine."""

import shlex
from pathlib import Path

from lab.toolchain import tree_command

WRAPPER = Path(__file__).with_name("nix.sh")


def nix_wrapper(run_dir: Path) -> Path:
    """Return a folder to put first on PATH: its `nix` has a store of its own in `run_dir/nix`; needs root.

    Only that program sees its store paths. `nix copy` uses the `ssh` on PATH. For the tests, copies to a new root
    (`remote-store=`) fail while a file exists: the one that `$HOLDFAST_LAB_FAIL_COPY` names, or if that is not set,
    `run_dir/fail-closure-copy`.

    Args:
        run_dir: the lab's folder of this checkout.

    """
    home = run_dir.resolve() / "nix"
    for folder in ("bin", "nix", "root"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    values = {
        "@home@": shlex.quote(str(home)),
        "@fault@": shlex.quote(str(home.parent / "fail-closure-copy")),
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
