"""Serves two deployments for each host of the inventory: `install/NAME` and `rehearse/NAME`."""

import ipaddress
import os
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect import Flow, get_client, serve
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_RUNNER_POLL_FREQUENCY,
    PREFECT_SERVER_API_HOST,
    temporary_settings,
)

from deployments.automations import HEARTBEAT_S, TAG, ensure_dead_runs_are_marked
from deployments.prefect_settings import require_server_address
from deployments.schedule import check_schedule, schedule_of
from deployments.waiting import waiting
from flows.install import install
from flows.rehearse import rehearse
from holdfast.base import clock
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import PROJECT, settings
from holdfast.base.text import printable
from holdfast.inventory.host import Host
from holdfast.inventory.loading import load_inventory

# In seconds. With Prefect's own 10 s, a run would start late: they are most of the wait until it is Running.
POLL_S = 1

# With waits of 2, 4, … s in between, a run survives about 8 min without its server. With Prefect's own 5 it is 1 min.
REQUEST_RETRIES = 8


def who_may_reach(api_url: str, *, server_host: str, authenticated: bool) -> str:
    """Return a warning if not only this machine's users can control the Prefect server; otherwise an empty text.

    Whoever can reach it can start installs, approve them, and run code as the worker (docs/security.md).

    Args:
        api_url: the server's address.
        server_host: the address on which a server with the same settings listens.
        authenticated: whether a key or password for the server is set.

    """
    if authenticated:
        return ""
    asked = urlsplit(api_url).hostname or ""
    where = next((host for host in (asked, server_host) if not _is_loopback(host)), "")
    if not where:
        return ""
    return (
        f"the Prefect server at {printable(where)} asks for no password: anybody who can reach it can install machines."
        " Hint: let it listen on 127.0.0.1, or set PREFECT_SERVER_API_AUTH_STRING there and PREFECT_API_AUTH_STRING"
        " here."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def deployments(host: Host) -> tuple[RunnerDeployment, ...]:
    """Return a host's two deployments: the install, also by schedule, and the rehearsal.

    They do not use Prefect's concurrency limit. A server that restarts forgets who holds a slot, and then ends the run
    in the middle of its work ("Concurrency lease renewal failed", Prefect 3.9.1). Instead, the lock on the target keeps
    a second run out (holdfast/target/lock.py).
    """
    away_and_back = (
        f"Takes {host.name} ({host.target}) into the installer and back, as an install of {host.system} would"
    )
    return (
        _deployment(
            install,
            host,
            f"Installs NixOS on {host.name} ({host.target}) from {host.system}",
            schedule=schedule_of(host),
        ),
        _deployment(rehearse, host, f"{away_and_back}; no disk is touched"),
    )


def _deployment(
    flow: Flow[Any, Any], host: Host, description: str, *, schedule: CronSchedule | None = None
) -> RunnerDeployment:
    made = flow.to_deployment(
        name=host.name,
        description=description,
        parameters={"host": host.name},
        schedules=[schedule] if schedule else [],
        tags=[TAG, host.name],
    )
    assert isinstance(made, RunnerDeployment)
    return made


def main() -> int:
    """Serve until this process is ended. A run in progress is then cancelled; the deployments stay."""
    try:
        inventory = load_inventory(settings().inventory)
        for host in inventory.hosts.values():
            check_schedule(inventory.path, host)
        address = require_server_address()
    except HoldfastError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    warning = who_may_reach(
        address,
        server_host=PREFECT_SERVER_API_HOST.value(),
        authenticated=bool(PREFECT_API_KEY.value() or PREFECT_API_AUTH_STRING.value()),
    )
    if warning:
        print(f"serve: {warning}", file=sys.stderr)
    os.chdir(PROJECT)  # the entrypoints of the flows are relative to it
    told = {
        PREFECT_RUNNER_POLL_FREQUENCY: POLL_S,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: HEARTBEAT_S,
        PREFECT_CLIENT_MAX_RETRIES: REQUEST_RETRIES,
    }
    with temporary_settings(told):
        served = [made for host in inventory.hosts.values() for made in deployments(host)]
        try:
            ensure_dead_runs_are_marked()
            _tell_what_waits(served)
        except httpx.HTTPError as error:
            why = printable(str(error).strip().split("\n")[0])[:200]
            print(
                f"serve: the Prefect server does not answer, or refuses: {why}. Hint: start it with"
                " `prefect server start`, and look at PREFECT_API_URL.",
                file=sys.stderr,
            )
            return 2
        serve(*served, pause_on_shutdown=False)
    return 0


def _tell_what_waits(served: Iterable[RunnerDeployment]) -> None:
    names = [f"{made.flow_name}/{made.name}" for made in served]
    with get_client(sync_client=True) as client:
        for line in waiting(client, names, clock.utc(), settings().late_s):
            print(f"serve: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
