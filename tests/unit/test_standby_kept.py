"""What kexec has handed over for the standby is used, and only what is missing or damaged is uploaded."""

import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.size import MIB
from holdfast.plan.results import Built
from holdfast.target import standby
from holdfast.target.machine import Machine
from tasks.kexec import kexec
from tasks.partition import partition
from tests.log import Remembered
from tests.unit.cases import built, derivation, facts, host, plan
from tests.unit.efi_stub import sections_of
from tests.unit.programs import Done
from tests.unit.server import body
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_standby import COMMAND_LINE, FILES, STARTER, image

RAM = "/run/holdfast/standby"
KEPT = {"kernel": b"kernel", "initrd": b"initrd" * 100, "starter": b"starter"}


@pytest.fixture
def installer(machine: FakeMachine) -> FakeMachine:
    machine.is_in("installer")
    return machine


def bring(folder: Path, **changed: Any) -> str:
    """Bring the standby; return what is said of it, or why there can be none."""
    log = Remembered()
    seen = facts("installer").model_copy(update={"available_bytes": 500 * MIB, "firmware": "bios", **changed})
    try:
        standby.bring(Machine(host(), log), image(folder, FILES | STARTER), seen)
    except standby.NoStandby as error:
        return error.message
    [said] = [line for line in log.said if line.startswith("the standby: ")]
    return said


def keep(installer: FakeMachine, **files: bytes) -> None:
    installer.files |= {f"{RAM}/{name}.part": content for name, content in (KEPT | files).items()}


def there(installer: FakeMachine) -> dict[str, bytes]:
    found = {path.removeprefix(f"{RAM}/"): data for path, data in installer.files.items() if path.startswith(RAM)}
    del found["command-line"]
    return found


def test_nothing_is_uploaded(tmp_path: Path, installer: FakeMachine) -> None:
    keep(installer)
    assert bring(tmp_path) == "the standby: 0 of 613 bytes are uploaded, the others were in the installer's RAM"
    assert there(installer) == KEPT
    assert installer.told("upload-append.sh") == []
    assert installer.told("upload-finish.sh") == []


def test_everything_is_uploaded(tmp_path: Path, installer: FakeMachine) -> None:
    assert bring(tmp_path).startswith("the standby: 613 of 613 bytes are uploaded")
    assert there(installer) == KEPT


@pytest.mark.parametrize(
    ("initrd", "sent"), [(b"initrd" * 50, 300), (b"damage" * 100, 600), (b"initrd" * 101, 600), (b"", 600)]
)
def test_what_is_not_right_is_uploaded(tmp_path: Path, installer: FakeMachine, initrd: bytes, sent: int) -> None:
    keep(installer, initrd=initrd)
    assert bring(tmp_path).startswith(f"the standby: {sent} of 613 bytes")
    assert there(installer) == KEPT


@pytest.mark.parametrize("kept", [True, False])
def test_program_for_uefi_is_made_there(tmp_path: Path, installer: FakeMachine, kept: bool) -> None:
    if kept:
        keep(installer)
    said = bring(tmp_path, firmware="efi")
    program = there(installer).pop("standby.efi")
    sections = sections_of(program)
    assert (sections[".initrd"][1], sections[".linux"][1]) == (b"starter", b"kernel")
    assert sections[".cmdline"][1] == COMMAND_LINE.encode()
    head = program.index(b"starter")
    assert said.startswith(f"the standby: {head + (0 if kept else 613)} of {613 + len(program)} bytes are uploaded")
    assert f"{RAM}/standby.efi" not in [args[0] for args in installer.told("upload-append.sh")]


@pytest.mark.parametrize("answer", [Done(status=1), "another program"])
def test_program_that_could_not_be_made_is_uploaded(tmp_path: Path, installer: FakeMachine, answer: object) -> None:
    keep(installer)

    def fail(_: object) -> Done:
        if isinstance(answer, Done):
            return answer
        installer.files[f"{RAM}/standby.efi.part"] = b"x" * 2000
        return Done()

    installer.on("standby-program.sh", fail)
    assert "bytes are uploaded" in bring(tmp_path, firmware="efi")
    assert sections_of(there(installer)["standby.efi"])[".linux"][1] == b"kernel"


def test_what_is_there_needs_no_memory(tmp_path: Path, installer: FakeMachine) -> None:
    installer.on("standby-make-room.sh", lambda _: "0\n")
    big = {"kexec/initrd": b"i" * (4 * MIB)}
    path = image(tmp_path, {name: data for name, data in FILES.items() if "initrd" not in name} | big)
    seen = facts("installer").model_copy(update={"available_bytes": 259 * MIB})
    here = Machine(host(), Remembered())
    with pytest.raises(standby.NoStandby, match="259 MiB of memory left, and 262 are needed"):
        standby.bring(here, path, seen)
    installer.on("standby-make-room.sh", lambda _: "4096\n")
    standby.bring(here, path, seen)
    for nonsense in ("", "-1", "9" * 30, "4096 x", "\x1b[1m"):
        installer.on("standby-make-room.sh", lambda _, said=nonsense: said)  # type: ignore[misc]
        with pytest.raises(standby.NoStandby, match="262 are needed"):
            standby.bring(here, path, seen)


@pytest.fixture
def made(tmp_path: Path) -> Built:
    return built(image=str(image(tmp_path)), keeps_standby=True)


@pytest.mark.usefixtures("desk", "server")
@pytest.mark.parametrize(
    ("inventory", "changed", "told"),
    [
        ({}, {}, True),
        ({}, {"keeps_standby": False}, False),  # an older image
        ({"standby": False}, {}, False),
        ({}, {"derivations": (derivation("nixos-system"),)}, False),  # the build may need the memory
    ],
)
def test_kexec_is_told_only_if_a_standby_can_come_of_it(
    machine: FakeMachine, made: Built, inventory: dict[str, Any], changed: dict[str, Any], told: bool
) -> None:
    chosen = host(**inventory)
    body(kexec)(chosen, plan(facts("debian-12"), chosen, run_id=RUN), made.model_copy(update=changed))
    [flags] = machine.told("run")
    assert ("--keep-for-standby" in flags) == told


@pytest.mark.usefixtures("desk", "server")
@pytest.mark.parametrize(
    ("inventory", "available_kib", "said"),
    [({"standby": False}, 900_000, ""), ({}, 200_000, "are needed")],
)
def test_memory_is_given_back_without_a_standby(
    installer: FakeMachine,
    made: Built,
    log: Remembered,
    inventory: dict[str, Any],
    available_kib: int,
    said: str,
) -> None:
    keep(installer)
    installer.shows("installer", memory=f"MemTotal: 999999 kB\nMemAvailable: {available_kib} kB\n")
    chosen = host(**inventory)
    body(partition)(chosen, plan(facts("debian-12"), chosen, run_id=RUN), made)
    assert [path for path in installer.files if path.startswith(RAM)] == []
    assert len(installer.told("standby-give-back.sh")) == 1
    assert re.search(said, "".join(log.warned))
    assert bool(log.warned) == bool(said)
