"""./just and the justfile agree on what needs root."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_verbs_of_the_lab_go_through_sudo() -> None:
    of_the_lab = set(re.findall(r"^([a-z-]+)[^:\n]*: _debian$", (ROOT / "justfile").read_text(), re.MULTILINE))
    through_sudo = re.search(r'^case "\$\{1-\}" in\n([^)]+)\)', (ROOT / "just").read_text(), re.MULTILINE)
    assert through_sudo is not None
    assert set(through_sudo[1].split(" | ")) == of_the_lab
    assert {"demo", "test"} < of_the_lab
