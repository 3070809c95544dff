"""What holds for all tests.

`./just test` has three pytest workers. Two have a lab each, from the start, and the third begins with the rest: labs
leave the cores idle while they wait.
"""

from pathlib import PurePosixPath
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

SECOND_LAB: Final = frozenset({"test_cancel", "test_handful", "test_image_boot", "test_nixos_anywhere"})
"""The modules of the second lab: about half of the time."""


class TwoLabs(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Keeps together what shares a lab, or the fixtures of a module. Unit tests go wherever there is time.

    The scopes are given out in the order of the folders (`--no-loadscope-reorder`), and `lab` is the first of them.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        if file.is_relative_to("tests/lab"):
            return "lab 2" if file.stem in SECOND_LAB else "lab 1"
        return nodeid if file.is_relative_to("tests/unit") else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TwoLabs:
    return TwoLabs(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter of bytes by its argument: an archive has the time in it, and names must not differ."""
    return argname if isinstance(val, bytes) else None
