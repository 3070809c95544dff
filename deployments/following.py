"""Starts a deployment, if somebody serves it, and follows its run. Ctrl-C leaves no run that nobody knows of."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling

from holdfast.base import clock
from holdfast.base.errors import ConfigError, HoldfastError, Unreachable
from holdfast.base.text import printable

# `just serve` asks the server for runs every second, and Prefect's own `serve` every 10 s.
SOON_S: Final = 12.0
LOOK_S: Final = 0.5
ANSWER_S: Final = 10.0
RETRIES: Final = 2
CTRL_C: Final = 130


def follow(verb: str, deployment: str, parameters: Mapping[str, object]) -> int:
    """Start a deployment's run and show it until it ends. Return 0 if it was completed.

    Args:
        verb: stands before every line for people.
        deployment: as `install/cottage`.
        parameters: of the run.

    """
    try:
        deployed = require_served(deployment)
    except HoldfastError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{verb}: nothing was started.", file=sys.stderr)
        return CTRL_C
    began = clock.utc()
    command = ["prefect", "deployment", "run", deployment, "--watch", "--params", json.dumps(parameters)]
    # In a session of its own, so that Ctrl-C reaches only us.
    following = subprocess.Popen(command, start_new_session=True)
    try:
        return following.wait()
    except KeyboardInterrupt:
        following.terminate()
        try:
            following.wait()
        except KeyboardInterrupt:  # pressed again: what becomes of the run is said all the same
            following.kill()
    print(f"\n{verb}: {_given_up(deployed, deployment, began)}", file=sys.stderr)
    return CTRL_C


def require_server_address() -> str:
    """Return the address of the Prefect server. Without one, Prefect would start a server of its own for each program.

    Raises:
        ConfigError: PREFECT_API_URL is not set.

    """
    url: str | None = PREFECT_API_URL.value()
    if not url:
        raise ConfigError(
            "PREFECT_API_URL is not set, so there is no Prefect server to ask.",
            hint="Set it to the server of `just serve`, as http://127.0.0.1:4200/api (docs/howto/install-a-host.md).",
        )
    return url


def require_served(deployment: str) -> DeploymentResponse:
    """Return a deployment that somebody serves. A run that is created without would wait, and begin when nobody looks.

    Prefect's own status of a deployment follows a minute late, so this looks when its server was last asked for runs.

    Raises:
        ConfigError: Prefect's address is not set, or its server has no such deployment.
        Unreachable: the server does not answer, or nobody serves the deployment.

    """
    url = require_server_address()
    hint = "Start `just serve` with the same inventory and the same Prefect server, and leave it running."
    try:
        with _client() as client:
            deployed = client.read_deployment_by_name(deployment)
            if not _is_asked_for(client, deployed, deployment):
                raise Unreachable(f"nobody serves {deployment}, so nothing was started.", hint=hint)
            return deployed
    except ObjectNotFound:
        raise ConfigError(
            f"the Prefect server at {printable(url)} has no deployment {deployment}.", hint=hint
        ) from None
    except httpx.HTTPStatusError as error:
        raise ConfigError(
            f"the Prefect server at {printable(url)} refuses: HTTP status {error.response.status_code}.",
            hint="Look at PREFECT_API_URL, and at PREFECT_API_AUTH_STRING if the server wants a password.",
        ) from None
    except httpx.HTTPError as error:
        raise Unreachable(
            f"the Prefect server at {printable(url)} does not answer: {printable(str(error))[:200]}.",
            hint="Start it with `prefect server start`, or correct PREFECT_API_URL.",
        ) from None


def _is_asked_for(client: SyncPrefectClient, deployed: DeploymentResponse, name: str) -> bool:
    """Return whether somebody asks for the deployment's runs now.

    Its last time is no proof: whoever asked may have ended since, and the server's clock may be another one.
    """
    ends = clock.monotonic() + SOON_S
    while clock.monotonic() < ends:
        clock.sleep(LOOK_S)
        if client.read_deployment_by_name(name).last_polled != deployed.last_polled:
            return True
    return False


def _given_up(deployed: DeploymentResponse, name: str, began: datetime) -> str:
    """Return what becomes of the run that was followed. One that has not begun is cancelled: nobody would expect it."""
    try:
        with _client() as client:
            run = _newest(client, deployed, began)
            if run is None:
                return "nothing was started."
            begun = run.state is not None and not (run.state.is_scheduled() or run.state.is_pending())
            if run.state is not None and run.state.is_final():
                return f"run {run.id} has ended already: {run.state.name}."
            if begun and not _wants_it_cancelled(run):
                return f"run {run.id} continues without you. To cancel it: prefect flow-run cancel {run.id}"
            client.set_flow_run_state(run.id, Cancelling(message="Cancelled with Ctrl-C."))
    except (httpx.HTTPError, ObjectNotFound):
        return (
            f"the Prefect server does not answer, so a run of {name} may go on: look there, and cancel it if you wish."
        )
    if not begun:
        return f"run {run.id} had not begun, and is cancelled."
    return f"run {run.id} is told to stop at the next safe point; its log says where the machine is then."


def _newest(client: SyncPrefectClient, deployed: DeploymentResponse, began: datetime) -> FlowRun | None:
    """Return the run that was started since then; a run by schedule is none."""
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployed.id])),
        flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=began)),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    return next((run for run in found if not run.auto_scheduled), None)


def _wants_it_cancelled(run: FlowRun) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        answer = input(f"\nRun {run.id} continues without you. Cancel it? [y/N] ")
    except (KeyboardInterrupt, EOFError):
        return False
    return answer.strip().lower() in ("y", "yes")


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """Lend a client that soon gives up: a person waits for the answer. A busy SQLite refuses now and then."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: RETRIES}),
        get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client,
    ):
        yield client
