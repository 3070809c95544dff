"""`./just demo`: a whole install in the lab, through a real Prefect server."""

import argparse
import json
import shutil
import signal
import sys
import time
from types import FrameType

from holdfast.base.errors import HoldfastError
from lab.operator import Operator
from lab.runtime import Lab
from lab.toolchain import announce


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that everything is ended in order."""
    raise KeyboardInterrupt


def install_cottage(operator: Operator, lab: Lab) -> int:
    """Run `prefect deployment run install/cottage --watch`, print the report, return the run's exit status."""
    began = time.time()
    announce("installing cottage (about 3 min) …")
    status = operator.prefect("deployment", "run", "install/cottage", "--watch")
    report = operator.newest_report(since=began)
    if report is None:
        print("demo: the run wrote no report. Hint: read lab/run/serve.log", file=sys.stderr)
        return status or 1
    shutil.copyfile(report, lab.run_dir / "report.json")
    print_report(json.loads(report.read_text()))
    return status


def print_report(report: dict[str, object]) -> None:
    """Print the phases of a report, and what proves the install."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{report['host']}: {report['outcome']} after {report['seconds']} s")
    columns = ("name", "outcome", "seconds", "attempts", "connections", "commands")
    for column in columns:
        table.add_column(column)
    for phase in report["phases"]:  # type: ignore[attr-defined]
        table.add_row(*(str(phase[key]) for key in columns))
    console.print(table)
    shown = ("error", "boot_id", "identity", "closure", "away_s", "path", "connections", "commands", "outside_phases_s")
    for key in (*shown, "peak_rss_bytes"):
        if report[key]:
            console.print(f"{key}: {json.dumps(report[key], indent=2)}", highlight=False, soft_wrap=True)


def stay_up(operator: Operator) -> None:
    """Keep everything up until Ctrl-C."""
    print(f"\nThe Prefect UI: {operator.ui}\nThe final system: ./just lab ssh\nCtrl-C ends everything.")
    while True:
        time.sleep(60)


def main() -> int:
    """Start everything, install, and end everything again."""
    parser = argparse.ArgumentParser(
        prog="just demo",
        description="Installs the lab's machine cottage over its tailnet, through a real Prefect server. Takes about"
        " 6 min; the first time about 15 min, because the lab is built then.",
    )
    parser.add_argument("--once", action="store_true", help="end everything after the install; else Ctrl-C does")
    once = parser.parse_args().once or not sys.stdout.isatty()
    signal.signal(signal.SIGTERM, _stop)
    lab = Lab()
    status = 130
    announce("the demo takes about 6 min; the first time about 15 min, to build the lab")
    try:
        lab.up()
        with Operator(lab) as operator:
            print(f"Watch the install in the Prefect UI: {operator.ui}", flush=True)
            status = install_cottage(operator, lab)
            if not once:
                stay_up(operator)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    finally:
        announce("ending everything (about 10 s) …")
        lab.down()
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (HoldfastError, PermissionError, RuntimeError) as error:
        sys.exit(f"demo: {error}\nThe logs are in lab/run.")
