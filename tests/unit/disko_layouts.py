"""Layouts of disko in tests/unit/disko/layouts/: what layout.nix answers about each.

Those of disko's own examples were recorded from disko's module, at commit 878ec37; tests/unit/disko/layouts.nix has the
others, and some of the examples once more.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.plan.layout import Layout, parse_layout

FOLDER = Path(__file__).parent / "disko"
LAYOUTS = sorted(path.stem for path in (FOLDER / "layouts").glob("*.json"))


@cache
def recorded(name: str) -> dict[str, Any]:
    """Return a recorded layout: `from`, where the configuration is, and `mounts`, the answer."""
    said: dict[str, Any] = json.loads((FOLDER / "layouts" / f"{name}.json").read_text())
    return said


def layout(name: str) -> Layout:
    """Return a recorded layout as the plan sees it."""
    made = parse_layout(recorded(name)["mounts"])
    assert made is not None, name
    return made


def is_example(name: str) -> bool:
    """Return whether it is one of disko's own examples."""
    return str(recorded(name)["from"]).startswith("disko, example/")
