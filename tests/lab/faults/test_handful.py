"""The faults of every run of the tests: one of each kind, in one install. `./just faults` has them all."""

import pytest

from tests.lab.faults.journey import INSTALLER, Journey

pytestmark = pytest.mark.lab


def test_one_install_with_faults_of_each_kind(journey: Journey) -> None:
    journey.start()
    journey.reach("kexec")
    journey.until_on_machine("a part of the image", "test $(cat /var/lib/holdfast/*.part | wc -c) -gt 4000000")
    journey.thrown("upload cut for 20 s", "kexec", lambda: journey.cut(20))
    journey.reach("partition")
    with journey.fault("flow killed, retried on a worker with empty folders", "partition") as seen:
        journey.kill_flow()
        seen.where = journey.where()
        assert seen.where == INSTALLER
        journey.operator.stop_serving()
        journey.operator.start_another_worker()
        journey.retry()
        seen.recovery = f"Retry there, {journey.go_on('partition')}"
    journey.reach("install")
    with journey.fault("flow killed, then a fresh run", "install") as seen:
        journey.kill_flow()
        seen.where = journey.where()
        assert seen.where == INSTALLER
        journey.start()
        seen.recovery = f"fresh run, {journey.go_on('install')}"
    journey.reach("restore")
    journey.thrown("power cut", "restore", journey.lab.power_cycle)
    report = journey.finish()
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert outcomes["kexec"] == outcomes["partition"] == "skipped", outcomes
