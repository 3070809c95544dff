"""`./just matrix`: all kinds, in four labs at once; prints one table at the end, and one of the faults in them."""

import sys
import time
from pathlib import Path
from typing import Final

from tests.lab import table
from tests.lab.campaign import PROJECT, run_labs
from tests.lab.faults import table as faults
from tests.lab.matrix.table import COLUMNS, Row, in_order, show, without_row

ROWS: Final = "matrix.json"
FAULTS: Final = "matrix-faults.json"
_TEST: Final = "test_rows.py::test_kind_is_installed"
LABS: Final = {
    "run": (
        *(f"{_TEST}[{layout}]" for layout in ("plain", "bios-root", "luks-keyfile", "luks-passphrase", "zfs")),
        "test_starter_on_zfs.py",
        "test_encrypted_roots.py",
    ),
    "run-2": tuple(f"{_TEST}[{layout}]" for layout in ("grub-efi", "efi", "grub")),
    "run-3": ("test_first_boot.py", "test_first_boot_bios.py", "../test_first_boot_order.py"),
    "run-4": (*(f"{_TEST}[{layout}]" for layout in ("btrfs", "lvm")), "../test_final.py", "../aarch64"),
}


def main() -> int:
    """Run the labs, print what they found, and return 0 if every kind was installed."""
    began = time.monotonic()
    print("matrix: four labs at once, about two hours; progress is in their logs", flush=True)
    failed = run_labs("matrix", Path(__file__).parent, LABS, (ROWS, FAULTS))
    folders = [PROJECT / "lab" / lab for lab in LABS]
    faults.show([row for folder in folders for row in table.read(folder / FAULTS, faults.Row)])
    rows = in_order([row for folder in folders for row in table.read(folder / ROWS, Row)])
    show(rows)
    if missing := without_row(rows):
        print(f"matrix: not run to their end: {', '.join(missing)}")
    (PROJECT / "lab" / "run" / "matrix.md").write_text(table.to_markdown(COLUMNS, rows))
    print(f"matrix: {time.monotonic() - began:.0f} s; the table for docs/lab.md is in lab/run/matrix.md")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
