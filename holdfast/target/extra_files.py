"""Copies the user's extra files from a folder on the operator into the new root."""

import io
import os
import tarfile
from pathlib import Path
from typing import Final

from holdfast.base.errors import ConfigError
from holdfast.base.text import printable
from holdfast.ssh.connection import Connection

MAX_BYTES: Final = 64 * 1024 * 1024
LOOK_S: Final = 60
# $1 root, $2… folders below it. Prints those that are links: tar would follow them out of the new root.
_LINKS: Final = 'root=$1; shift; for folder; do [ ! -L "$root/$folder" ] || printf "%s\\n" "$folder"; done'


def put_extra_files(target: Connection, folder: Path, root: str, *, timeout_s: float) -> int:
    """Copy a folder's content into the new root, with its modes, owned by root. Return the number of files.

    The content travels on standard input, never as an argument. Existing folders keep their modes.

    Raises:
        ConfigError: the folder does not exist; it holds more than 64 MiB, or a socket, pipe or device; or one of its
            folders is a link in the new root.

    """
    if not folder.is_dir():
        raise ConfigError(f"extra_files: there is no folder {folder}.", hint="Correct `extra_files` in the inventory.")
    count, parents = 0, set[str]()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            if not (path.is_file() or path.is_symlink()):
                raise ConfigError(
                    f"extra_files: {path} is neither a file nor a folder nor a link.", hint="Remove it from the folder."
                )
            name = path.relative_to(folder)
            parents.update(parent.as_posix() for parent in name.parents if parent.name)
            info = tar.gettarinfo(path, arcname=name.as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            count += 1
            if info.isreg():
                with path.open("rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)
            if archive.tell() > MAX_BYTES:
                raise ConfigError(
                    f"extra_files: {folder} holds more than {MAX_BYTES // 2**20} MiB.",
                    hint="Extra files are for keys and secrets; put data into the system's closure.",
                )
    # On standard input: there may be more names than a command line takes.
    look = ["xargs", "-0", "sh", "-c", _LINKS, "sh", root]
    names = b"\0".join(os.fsencode(parent) for parent in sorted(parents))
    if links := target.run(look, stdin=names, timeout_s=LOOK_S).stdout.splitlines():
        raise ConfigError(
            f"extra_files: {printable(links[0])} is a link in the final system, and nothing is written through it.",
            hint="Put the files where the link leads, or let the NixOS configuration write them.",
        )
    target.run(["tar", "-C", root, "-xpf", "-"], stdin=archive.getvalue(), timeout_s=timeout_s)
    return count
