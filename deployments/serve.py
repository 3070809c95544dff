"""Serves a deployment for each host of the inventory to the Prefect server: `install/cottage`, …"""

import os
import sys

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_RUNNER_POLL_FREQUENCY, temporary_settings

from flows.install import install
from tasks.model.errors import HoldfastError
from tasks.model.host import Host, load_inventory
from tasks.model.settings import PROJECT, settings

# Prefect's own 10 s would be most of the wait between `deployment run` and Running.
POLL_S = 1


def deployment(host: Host) -> RunnerDeployment:
    """Return the deployment that installs a host: its defaults, its schedule, one run at a time."""
    made = install.to_deployment(
        name=host.name,
        description=f"Installs NixOS on {host.name} ({host.target}) from {host.flake}#{host.attribute}",
        parameters={"host": host.name},
        cron=host.schedule,
        concurrency_limit=ConcurrencyLimitConfig(limit=1),
        tags=["holdfast", host.name],
    )
    assert isinstance(made, RunnerDeployment)
    return made


def main() -> int:
    """Serve until ended; a run that is under way then is cancelled, the deployments stay."""
    try:
        inventory = load_inventory(settings().inventory)
    except HoldfastError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    os.chdir(PROJECT)  # the entrypoints are relative to it
    with temporary_settings({PREFECT_RUNNER_POLL_FREQUENCY: POLL_S}):
        serve(*(deployment(host) for host in inventory.hosts.values()), pause_on_shutdown=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
