"""What is done with each layout."""

from tests.lab.faults.journey import INSTALLER, Journey


def power_is_cut_after_formatting(journey: Journey, layout: str) -> None:
    """Install; cut the power when the disk is formatted; Retry; check the installed machine.

    Args:
        journey: the install, not started.
        layout: its name, for the table.

    """
    journey.start()
    journey.reach("install")
    assert journey.on_machine("cat /sys/class/watchdog/watchdog0/state") == "active"
    with journey.fault(f"power cut, the new disk ({layout}) not bootable yet", "install") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("install")
    report = journey.finish()
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert outcomes["trial"] == "done", outcomes
    left = "find /boot /efi / -xdev -maxdepth 2 -name '*holdfast*' -path '*boot*' 2>/dev/null || true"
    assert journey.on_machine(left) == "", "the standby is still there"
