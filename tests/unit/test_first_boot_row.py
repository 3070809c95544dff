"""The plan's row on the first boot: from the firmware's variables, by way-back.sh, to what leads back."""

import json
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from holdfast.facts.efi import EfiEntry, EfiFacts, parse_efi
from holdfast.facts.way_back import parse_way_back
from holdfast.inventory.host import Host, Way
from holdfast.plan.configuration import Configuration, parse_configuration
from holdfast.plan.way_back.first_boot import first_boot_rows
from holdfast.plan.way_back.row import Verdict
from tests.unit.cases import CONFIGURATION, host
from tests.unit.conftest import Userland
from tests.unit.efi_machine import NETWORK, NEW_ENTRY, USB, EfiMachine

TOOLS = (
    *["awk", "cat", "cmp", "cut", "dd", "grep", "head", "id", "ls", "mkdir", "mktemp", "od", "readlink", "rm", "sed"],
    *["tail", "sh", "sort", "tr", "uname", "sha256sum", "stat", "find", "date", "basename", "dirname", "timeout", "wc"],
)


def configured(boot_loaders: list[str], *, bios: bool) -> Configuration:
    grub = CONFIGURATION["grub"] | {"bios": bios}
    return parse_configuration(json.dumps(CONFIGURATION | {"boot_loaders": boot_loaders, "grub": grub}))


GRUB = configured(["grub"], bios=True)
SERVER = EfiFacts(
    variables="rw",
    bits=64,
    current="0003",
    order=("0001", "0009", "0003"),
    entries=(
        EfiEntry(number="0001", name="PXE IPv4", kind="network"),
        EfiEntry(number="0002", name="off", kind="usb", active=False),
        EfiEntry(number="0003", name="debian", kind="disk", partition="a" * 36, path="\\EFI\\debian\\shimx64.efi"),
    ),
)


@pytest.mark.parametrize("userland", ["busybox"], indirect=True)
def test_way_back_tells_the_firmwares_entries(userland: Userland, tmp_path: Path) -> None:
    efi = EfiMachine(tmp_path, userland)
    efi.set(order="0001 0000 0003", current="0000", following="0003", _0000=NEW_ENTRY, _0001=NETWORK, _0003=USB)
    done = subprocess.run(
        [*userland.shell, "-s"],
        env={"PATH": userland.path, "HOLDFAST_ROOT": str(efi.live)},
        input=script("origin/way-back.sh"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seen = parse_way_back(done.stdout, "cottage").efi
    assert (seen.variables, seen.bits, seen.current, seen.next) == ("rw", 64, "0000", "0003")
    assert [entry.kind for entry in seen.in_order] == ["network", "disk", "usb"]
    assert efi.writes == []


@pytest.mark.parametrize(
    ("efi", "inventory", "verdict", "said"),
    [
        (SERVER, {}, Verdict.FINE, "takes an order: 0001 PXE IPv4 (network), 0003 debian (disk)"),
        (SERVER.model_copy(update={"variables": "unmounted", "entries": ()}), {}, Verdict.FINE, "not mounted"),
        (SERVER.model_copy(update={"order": ()}), {}, Verdict.FINE, "it has none yet"),
        (SERVER.model_copy(update={"variables": "ro"}), {}, Verdict.UNPROVED, "cannot be written"),
        (SERVER.model_copy(update={"bits": 32}), {}, Verdict.UNPROVED, "UEFI of 32 bit"),
        (EfiFacts(variables="none"), {"standby": False}, Verdict.UNPROVED, "wants no standby"),
        (SERVER, {"standby": False}, Verdict.UNPROVED, "wants no standby"),
    ],
)
def test_row(efi: EfiFacts, inventory: dict[str, object], verdict: Verdict, said: str) -> None:
    [row] = first_boot_rows(efi, host(**inventory), GRUB)
    assert row.verdict is verdict
    assert said in row.seen
    assert ("nothing leads back" in row.means) is (verdict is Verdict.UNPROVED)


@pytest.mark.parametrize(
    ("boot_loaders", "bios", "verdict", "said"),
    [
        (["grub"], True, Verdict.FINE, "is GRUB, which can wait on the disk"),
        (["grub"], False, Verdict.UNPROVED, "is grub: only GRUB can wait"),  # of the EFI system partition only
        (["limine"], False, Verdict.UNPROVED, "is limine: only GRUB can wait"),
        (["external", "grub"], True, Verdict.UNPROVED, "is external and grub"),
        ([], False, Verdict.UNPROVED, "is none that is known"),
    ],
)
def test_bios(boot_loaders: list[str], bios: bool, verdict: Verdict, said: str) -> None:
    [row] = first_boot_rows(EfiFacts(variables="none"), host(), configured(boot_loaders, bios=bios))
    assert row.verdict is verdict
    assert said in row.seen
    assert ("nothing leads back" in row.means) is (verdict is Verdict.UNPROVED)
    assert ("the moment after GRUB is written" in row.means) is (verdict is Verdict.FINE)


@pytest.mark.parametrize(
    ("efi", "inventory"), [(EfiFacts(), host()), (EfiFacts(variables="none"), host(way=Way.STANDARD))]
)
def test_no_row(efi: EfiFacts, inventory: Host) -> None:
    assert list(first_boot_rows(efi, inventory, GRUB)) == []


def test_long_order_is_cut() -> None:
    entries = tuple(EfiEntry(number=f"{at:04X}", name="x" * 300) for at in range(40))
    many = EfiFacts(variables="rw", bits=64, order=tuple(entry.number for entry in entries), entries=entries)
    [row] = first_boot_rows(many, host(), GRUB)
    assert row.seen.endswith(", 34 more")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0001",
        "0001\ton\tdisk\t-\t-",
        "0001\ton\tdisk\t-\t-\ta\tb",
        "xyzw\ton\tdisk\t-\t-\ta",
        "00001\ton\tdisk\t-\t-\ta",
    ],
)
def test_line_that_is_none_is_left_out(line: str) -> None:
    assert _parse(boot_entries=line).entries == ()


def test_fields_are_bounded_and_printable() -> None:
    line = f"000a\tperhaps\tbrain\t../../etc\t\\x\x1b[31m{'y' * 999}\t\u202e{'z' * 999}\u2028"
    [entry] = _parse(boot_entries=f"{line}\n").entries
    assert (entry.number, entry.active, entry.kind, entry.partition) == ("000A", False, "other", "")
    assert entry.path.startswith("\\x\\x1b[31m")
    assert entry.name.startswith("\\u202ez")
    assert max(len(entry.path), len(entry.name)) < 300
    assert json.loads(entry.model_dump_json())["kind"] == "other"


@pytest.mark.parametrize("state", ["", "rw", "64", "128 rw", "64 rw more", "none 64"])
def test_state_that_is_none_is_unknown(state: str) -> None:
    assert (_parse(efi_state=state).variables, _parse(efi_state=state).bits) == ("unknown", 0)


def test_entries_are_bounded() -> None:
    lines = "".join(f"{at:04X}\ton\tdisk\t-\t-\tn\n" for at in range(500))
    assert len(_parse(boot_entries=lines).entries) == 64


def _parse(**told: str) -> EfiFacts:
    return parse_efi(dict.fromkeys(("efi_state", "boot_current", "boot_next", "boot_order", "boot_entries"), "") | told)
