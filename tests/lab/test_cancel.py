"""Cancel, while the runner is deaf because the Prefect server was away: the run itself has to stop."""

import time

import pytest

from lab.flow_runs import DEAF_AFTER_S, cancel, ended, report_of, start
from lab.operator import Operator
from lab.runtime import Lab

pytestmark = pytest.mark.lab


def test_a_run_that_waits_for_a_person_is_cancelled_after_a_restart_of_the_server(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"])
    inventory = lab.run_dir / "hosts.toml"
    found = inventory.read_text()
    inventory.write_text(found.replace("[cottage]\n", '[cottage]\napprove = "always"\n'))
    try:
        run_id = start(operator)
        ends = time.monotonic() + 300
        while operator.api(f"/flow_runs/{run_id}")["state"]["type"] != "PAUSED":
            assert time.monotonic() < ends, "it never asked for approval"
            time.sleep(1)
        operator.restart_server(away_s=DEAF_AFTER_S)
        pressed = time.monotonic()
        cancel(operator, run_id)
        run = ended(operator, run_id)
        print(f"cancelled in approve after a restart of the server: stopped after {time.monotonic() - pressed:.1f} s")
    finally:
        inventory.write_text(found)
        operator.stop_serving()
        operator.start_serving()
    assert run["state"]["type"] == "CANCELLED"
    assert run["state"]["message"].startswith("cancelled in the phase approve. cottage runs its own system, Debian")
    assert report_of(operator, run_id)["outcome"] == "cancelled"
    assert lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]) == boot_id
