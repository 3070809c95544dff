"""Which system a target runs, told by what it shows."""

import pytest

from holdfast.base.errors import UnexpectedState
from holdfast.plan.stage import Stage, nothing_to_do, observe
from tests.unit.cases import facts

OURS = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11"


@pytest.mark.parametrize(
    ("case", "changed", "toplevel", "stage", "why"),
    [
        ("debian-12", {}, "", Stage.ORIGIN, "Debian GNU/Linux 12"),
        ("debian-12", {}, OURS, Stage.ORIGIN, "Debian GNU/Linux 12"),
        ("installer", {}, OURS, Stage.INSTALLER, "started by run-1"),
        ("installer", {"installer_mark": ""}, "", Stage.INSTALLER, "without Holdfast's mark"),
        ("nixos", {}, "", Stage.FINAL, OURS),
        ("nixos", {}, OURS, Stage.FINAL, OURS),
        ("nixos", {}, OURS + "-newer", Stage.ORIGIN, OURS),
        ("nixos", {"system_mark": ""}, "", Stage.ORIGIN, OURS),
        ("debian-12", {"system_mark": "not json"}, OURS, Stage.ORIGIN, "Debian GNU/Linux 12"),
        ("nixos", {"system_mark": "?"}, OURS, Stage.FINAL, OURS),
        ("nixos", {"system_mark": "?"}, OURS + "-newer", Stage.ORIGIN, OURS),
        ("debian-12", {"partition_mark": "not json"}, OURS, Stage.OTHER, "partition_mark"),
        ("installer", {"installer_mark": "not json"}, OURS, Stage.OTHER, "installer_mark"),
    ],
)
def test_stage(case: str, changed: dict[str, str], toplevel: str, stage: Stage, why: str) -> None:
    seen = observe(facts(case, **changed), toplevel)
    assert seen.stage is stage
    assert why in seen.why


def test_phases_of_the_installer() -> None:
    assert nothing_to_do(facts("installer"), OURS, "cottage") == ""
    assert OURS in nothing_to_do(facts("nixos"), OURS, "cottage")
    with pytest.raises(UnexpectedState, match="cottage is not in the installer"):
        nothing_to_do(facts("debian-12"), OURS, "cottage")
