"""What is done from each origin."""

from lab.flow_runs import ended, report_of, start
from lab.operator import Operator
from lab.runtime import Lab

# A rehearsal has four boots, without KVM.
RUN_S = 2400


def rehearse(operator: Operator) -> str:
    """Reboot the origin, start the installer and return to the origin: four boots, one node.

    Returns:
        The last boot id.

    """
    run_id = start(operator, "rehearse/cottage", origin=True)
    run = ended(operator, run_id, RUN_S)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(operator, run_id)
    boots = report["boot_id"]
    assert list(boots) == ["origin", "proved", "installer", "returned"]
    assert len(set(boots.values())) == 4
    assert len({str(node) for node in report["identity"].values()}) == 1
    return str(boots["returned"])


def install(lab: Lab, operator: Operator) -> None:
    """Install, and look at what then runs: the system that was built, as the same node."""
    run_id = start(operator)
    run = ended(operator, run_id, RUN_S)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(operator, run_id)
    assert len(set(report["boot_id"].values())) == 3
    assert len({str(node) for node in report["identity"].values()}) == 1
    assert report["closure"]["built"] == report["closure"]["booted"]
    assert lab.ssh_local(["readlink", "/run/current-system"]).strip() == report["closure"]["built"]
