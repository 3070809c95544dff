"""Makes the hardware report in the installer, for a rehearsal: a later install evaluates the flake with it."""

from holdfast.base.errors import HoldfastError
from holdfast.base.text import printable
from holdfast.inventory.host import Host
from holdfast.nixcli.hardware_file import Place, file_of, put_report
from holdfast.plan.plan import Plan
from holdfast.plan.results import HardwareReported, Returned
from holdfast.target.hardware import make_report
from tasks.run.log import current, say, warn
from tasks.run.phase import phase
from tasks.run.this_run import machine_of


@phase("hardware_seen")
def hardware_seen(host: Host, plan: Plan, returned: Returned) -> HardwareReported:
    """Write the report into the flake. Changes nothing on the target.

    What goes wrong here is only told: the machine is in the installer, and the rehearsal has to bring it back.
    """
    assert host.hardware_report
    backend = host.hardware_report.backend
    try:
        file = str(file_of(host))
        with machine_of(host, plan).on_boot(returned.boot_id).wait_and_connect() as target:
            report = make_report(target, host.name, backend)
        if report is None:
            warn(f"the installer on {host.name} has no {backend}: {file} is as it was")
            return HardwareReported(file=file, skipped=f"the installer has no {backend}")
        put = put_report(host, report)
    except HoldfastError as error:
        warn(f"there is no hardware report of {host.name}: {error}")
        return HardwareReported(skipped="it failed; the log says why")
    for line in put.difference:
        current().line(printable(line))
    if put.place is Place.KEPT:
        warn(
            f"{backend} says something else of {host.name} than {file}, which Holdfast did not write, or which was"
            " changed since: it was kept. The difference is in the run's log; remove the file to get the new report"
        )
    else:
        news = "already has" if put.place is Place.SAME else "has"
        say(f"{file} {news} what {backend} said of {host.name}: look at it, and commit it")
    return HardwareReported(file=file, written=put.place is Place.WRITTEN)
