"""The faults that every run of the tests throws: one of each kind, in one journey. `./just faults` has them all."""

import time

import pytest

from tests.lab.faults.journey import FINAL, INSTALLER, Journey

pytestmark = pytest.mark.lab


def test_one_install_with_faults_of_each_kind(journey: Journey) -> None:
    journey.start()
    journey.reach("kexec")
    journey.until_on_machine("a part of the image", "test $(cat /var/lib/holdfast/*.part | wc -c) -gt 4000000")
    with journey.fault("upload cut for 20 s", "kexec") as seen:
        journey.lab.cut_link()
        time.sleep(20)
        journey.lab.mend_link()
        seen.recovery = journey.go_on("kexec")
    journey.reach("partition")
    with journey.fault("flow killed, retried on a worker with empty folders", "partition") as seen:
        journey.operator.kill_flow(journey.run_id)
        journey.ended("CRASHED")
        seen.where = journey.where()
        assert seen.where == INSTALLER
        journey.operator.stop_serving()
        journey.operator.start_another_worker()
        journey.retry()
        seen.recovery = f"Retry there, {journey.go_on('partition')}"
    journey.reach("restore")
    with journey.fault("power cut, then a fresh run", "restore") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == FINAL
        journey.operator.kill_flow(journey.run_id)
        journey.ended("CRASHED")
        journey.start()
        seen.recovery = f"fresh run, {journey.go_on('verify')}"
    report = journey.finish()
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert outcomes["kexec"] == outcomes["partition"] == outcomes["install"] == "skipped", outcomes
