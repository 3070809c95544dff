"""The lab's origin with other files: the same node, on a disk of its own."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab import origin, qemu
from lab.cache import Part
from lab.joined import joined_pair
from lab.toolchain import built


def disk(files: Mapping[str, str]) -> Path:
    """Return a disk (qcow2) of the joined origin, with some files replaced or added.

    Args:
        files: their texts, by their absolute paths; an empty text removes a file.

    """
    parts: list[Part] = [joined_pair().name, json.dumps(files), Path(__file__)]
    return built("origin-changed", parts, lambda into: _make(into, files), about="20 s") / "origin.qcow2"


def text_of(path: str) -> str:
    """Return the text of a file of the joined origin, by its absolute path."""
    with tempfile.TemporaryDirectory() as work:
        raw = Path(work) / "origin.img"
        qemu.convert(joined_pair() / "origin.qcow2", "qcow2", raw, "raw")
        image = f"{raw}?offset={origin.ROOT_START_BYTES}"
        done = subprocess.run(["debugfs", "-R", f"cat {path}", image], check=True, capture_output=True, text=True)
    return done.stdout


def _make(into: Path, files: Mapping[str, str]) -> None:
    raw, local = into / "origin.img", into / "file"
    qemu.convert(joined_pair() / "origin.qcow2", "qcow2", raw, "raw")
    for path, text in files.items():
        _debugfs(raw, f"rm {path}")
        if text:
            local.write_text(text)
            _debugfs(raw, f"write {local} {path}")
    qemu.convert(raw, "raw", into / "origin.qcow2", "qcow2")
    raw.unlink()
    local.unlink(missing_ok=True)


def _debugfs(raw: Path, command: str) -> None:
    """Change the root file system. debugfs always ends well; whoever starts the disk sees what came of it."""
    image = f"{raw}?offset={origin.ROOT_START_BYTES}"
    subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)
