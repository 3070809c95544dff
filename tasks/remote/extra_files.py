"""The user's extra files, from a folder on the operator into the new root."""

import io
import tarfile
from pathlib import Path

from tasks.model.errors import ConfigError
from tasks.remote.connection import Connection

MAX_BYTES = 64 * 1024 * 1024


def put_extra_files(target: Connection, folder: Path, root: str, *, timeout_s: float) -> int:
    """Copy a folder's content into the new root, with its modes, owned by root; return the number of files.

    The content travels on standard input, never as an argument. Existing folders keep their modes.

    Raises:
        ConfigError: the folder is not there, or holds more than 64 MiB.

    """
    if not folder.is_dir():
        raise ConfigError(f"extra_files: there is no folder {folder}.", hint="Correct it in the inventory.")
    count = 0
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            info = tar.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
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
    target.run(["tar", "-C", root, "-xpf", "-"], stdin=archive.getvalue(), timeout_s=timeout_s)
    return count
