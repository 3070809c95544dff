"""One lab; for each the machine starts in its origin, and the flake makes another layout of its disk."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Final, TypeAlias

import pytest

from lab import qemu
from lab.final import flake_dir
from lab.operator import Operator
from lab.runtime import Lab
from tests.lab.faults import table as faults
from tests.lab.faults.journey import Journey
from tests.lab.table import Findings

# Each of these machines has a watchdog. The installer feeds it, so none of them may be reset by it.
_WATCHDOG: Final = ("-device", "i6300esb", "-action", "watchdog=reset")

Begin: TypeAlias = Callable[[str, qemu.Hardware], AbstractContextManager[Journey]]
"""Takes a layout, and the kind of machine; returns an install of it that has not been started."""


@pytest.fixture(scope="package")
def found_faults(lab: Lab) -> Iterator[Findings[faults.Row]]:
    findings: Findings[faults.Row] = Findings(lab.run_dir / "matrix-faults.json")
    yield findings
    faults.show(findings.rows)


@pytest.fixture
def begin(lab: Lab, operator: Operator, found_faults: Findings[faults.Row]) -> Begin:
    @contextmanager
    def begun(layout: str, hardware: qemu.Hardware) -> Iterator[Journey]:
        with lab.other_machine(replace(hardware, more=_WATCHDOG)):
            lab.ssh_local(["sh", "-c", "head -c 4M /dev/urandom >/dev/disk/by-id/virtio-DATA0001; sync"])
            lab.remember("origin")
            flake_dir(lab.run_dir, layout)
            journey = Journey(lab, operator, found_faults)
            try:
                journey.begin("origin")
                yield journey
            finally:
                journey.end()
                flake_dir(lab.run_dir)

    return begun
