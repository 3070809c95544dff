"""The target fetches an image that is named by URL and checksum by itself: its own way there may be the shorter one.

Whatever it fetches is checked by size and sha256 (nix/scripts/origin/fetch.sh). If it cannot, the image is uploaded.
"""

import base64
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from holdfast.base import brake
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.inventory.reference import Download
from holdfast.target.machine import Machine

# Beyond the time that the script gives itself: it then computes a digest.
END_S: Final = 120.0
_SHOWN: Final = 300


def why_not(download: Download, sha256: str) -> str:
    """Return why the target should not fetch this; empty if it may.

    Args:
        download: the URL, and the digest of the file there.
        sha256: the digest of the image that was built for this run, in hexadecimal.

    """
    parts = urlsplit(download.url)
    if parts.username is not None or parts.password is not None or parts.query:
        return "its URL has a login or a query, which may be a secret and would be seen there"
    if base64.b64decode(download.hash.removeprefix("sha256-")).hex() != sha256:
        return "the URL in the inventory is not that of this run's image"
    return ""


def fetch(
    machine: Machine,
    download: Download,
    place: str,
    *,
    size_bytes: int,
    sha256: str,
    timeout_s: float,
    on_progress: Callable[[int, int], None],
) -> str:
    """Let the target fetch the image. Return why it did not; empty if it is there.

    Args:
        machine: the machine, in its origin.
        download: where the image is.
        place: an absolute path there, in an existing folder.
        size_bytes: its size.
        sha256: its digest, in hexadecimal.
        timeout_s: how long it may take.
        on_progress: called about once a second with the bytes that are there and the bytes in all.

    Raises:
        Stopped: the run is cancelled.

    """
    if why := why_not(download, sha256):
        return why
    argv = ["sh", "-c", script("origin/fetch.sh"), "fetch.sh"]
    argv += [place, str(size_bytes), sha256, f"{timeout_s:.0f}", download.url]

    def hear(line: str) -> None:
        brake.check()
        if line.isdecimal():
            on_progress(min(int(line[:20]), size_bytes), size_bytes)

    try:
        with machine.connect_over_last_way() as target:
            done = target.run(argv, timeout_s=timeout_s + END_S, on_line=hear, check=False)
    except HoldfastError as error:
        return error.message
    last = printable((done.stdout.strip().splitlines() or [""])[-1])[:_SHOWN]
    if last == "there":
        on_progress(size_bytes, size_bytes)
        return ""
    return last.removeprefix("no: ") or done.summary()
