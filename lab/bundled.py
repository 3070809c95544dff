"""Programs of a Debian tree that run in any system: each with its own loader and libraries."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

WRAPPER = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/{lib}/ld-linux-x86-64.so.2" --library-path "$here/{lib}" "$here/{lib}/{name}" "$@"
"""


def bundle(tree: Path, programs: Iterable[str], libraries: Path, wrappers: Path) -> None:
    """Put programs of a Debian tree with their loader and libraries into a folder, and what starts them into another.

    Args:
        tree: the tree.
        programs: their paths in it, without the first slash.
        libraries: a new folder, beside or below the next.
        wrappers: a folder, for one script for each program, with its name.

    """
    libraries.mkdir(parents=True)
    wrappers.mkdir(parents=True, exist_ok=True)
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    shutil.copy(loader, libraries)
    for name in programs:
        program = tree / name
        shutil.copy(program, libraries)
        listing = [str(loader), "--library-path", str(tree / "usr/lib/x86_64-linux-gnu"), "--list", str(program)]
        needed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"=> (\S+/lib/x86_64-linux-gnu/\S+)", needed):
            shutil.copy(library, libraries)
        wrapper = wrappers / program.name
        wrapper.write_text(WRAPPER.format(lib=os.path.relpath(libraries, wrappers), name=program.name))
        wrapper.chmod(0o755)
