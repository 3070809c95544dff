"""./just: what needs root, and which folder it may make anew."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_verbs_of_the_lab_go_through_sudo() -> None:
    of_the_lab = set(re.findall(r"^([a-z-]+)[^:\n]*: _debian$", (ROOT / "justfile").read_text(), re.MULTILINE))
    through_sudo = re.search(r'^case "\$\{1-\}" in\n([^)]+)\)', (ROOT / "just").read_text(), re.MULTILINE)
    assert through_sudo is not None
    assert set(through_sudo[1].split(" | ")) == of_the_lab
    assert {"demo", "test"} < of_the_lab


def test_folder_that_it_has_not_made_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    environment = os.environ | {"HOLDFAST_VENV": str(tmp_path)}
    done = subprocess.run([ROOT / "just"], env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"just: {tmp_path} is no environment that just has made")
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
