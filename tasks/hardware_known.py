"""Makes sure that the flake has the hardware report that it imports, before it is locked."""

from holdfast.base.errors import TargetRefused
from holdfast.facts.hardware import is_placeholder, placeholder
from holdfast.inventory.host import Host
from holdfast.nixcli.hardware_file import file_of, how_to_get_one, put_report, read_report
from holdfast.nixcli.kept import is_locked
from holdfast.plan.results import HardwareReported
from holdfast.plan.until import Until
from holdfast.target.hardware import make_report, platform_of
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import journal, machine_of


@phase("hardware_known", retries=2)
def hardware_known(host: Host, *, rehearsal: bool = False, until: Until | None = None) -> HardwareReported:
    """Write the report into the flake, if it is not there. Changes nothing on the target.

    A run that ends before the disks are formatted goes on without a report: a placeholder lets the flake be evaluated.

    Args:
        host: the host; it has hardware_report.
        rehearsal: whether the install is only rehearsed.
        until: the phase after which the run is asked to stop.

    Raises:
        ConfigError: the flake is not in a folder of the operator, or the file cannot be written.
        CommandFailed: the program, or git, failed.
        TargetRefused: the machine has no such program in the system that runs, and the run needs a report.
        UnexpectedState: the machine says something that is not taken over.

    """
    assert host.hardware_report
    file, backend = str(file_of(host)), host.hardware_report.backend
    there = read_report(host)
    if is_locked(journal().folder):
        return HardwareReported(file=file, skipped="this run has locked the flake already")
    if there and not is_placeholder(there):
        return HardwareReported(file=file, skipped="the flake has it")
    with machine_of(host).connect(first_use=True) as target:
        report = make_report(target, host.name, backend)
        platform = "" if report else platform_of(target)
    if report:
        put_report(host, report)
        say(f"{file} has what {backend} said of {host.name}: look at it, and commit it")
        return HardwareReported(file=file, written=True)
    if not rehearsal and until != "reconnect":
        raise TargetRefused(
            f"{file} is not there yet, and {host.name} has no {backend} in the system that runs; nothing was changed"
            " on it.",
            hint=how_to_get_one(host),
        )
    put_report(host, placeholder(backend, platform))
    warn(f"{file} only stands for a hardware report: {host.name} has no {backend} yet, its installer may")
    return HardwareReported(file=file)
