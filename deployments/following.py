"""Starts a deployment, if somebody serves it, and follows its run. Ctrl-C leaves no run that nobody knows of."""

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from deployments.server import NotThere, Server
from deployments.watching import ENDED, Watch
from holdfast.base import clock
from holdfast.base.errors import ConfigError, HoldfastError, Unreachable
from holdfast.base.text import printable

# `just serve` asks the server for runs every second, and Prefect's own `serve` every 10 s.
SOON_S: Final = 12.0
LOOK_S: Final = 0.25
# Who asked for runs so shortly ago will most likely ask again. The run is created at once then, which saves a second,
# and is cancelled if nobody takes it.
JUST_NOW: Final = timedelta(seconds=3)
CTRL_C: Final = 130
_NOT_BEGUN: Final = ("SCHEDULED", "PENDING")
_SERVE: Final = "Start `just serve` with the same inventory and the same Prefect server, and leave it running."


def follow(verb: str, deployment: str, parameters: Mapping[str, object]) -> int:
    """Start a deployment's run and show it until it ends. Return 0 if it was completed.

    Args:
        verb: stands before every line for people.
        deployment: as `install/cottage`.
        parameters: of the run.

    """
    key = str(uuid4())
    try:
        return _start_and_follow(verb, deployment, parameters, key)
    except HoldfastError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        try:
            said = _given_up(deployment, key)
        except KeyboardInterrupt:
            said = f"a run of {deployment} may go on: look in Prefect, and cancel it if you wish."
        print(f"\n{verb}: {said}", file=sys.stderr)
        return CTRL_C


def _start_and_follow(verb: str, deployment: str, parameters: Mapping[str, object], key: str) -> int:
    with Server() as server:
        deployed = _deployment(server, deployment)
        certain = not _asked_just_now(server, deployed)
        if certain:
            _require_asked_for(server, deployed, deployment)
        run_id = str(server.create_run(str(deployed["id"]), dict(parameters), key)["id"])
        url = server.run_url(run_id)
        print(f"{verb}: the run is {run_id}, {url}", flush=True)
        if not certain:
            _require_taken(server, deployed, deployment, run_id)
        try:
            run = Watch(server, run_id, lambda line: print(line, flush=True)).until_end()
        except HoldfastError as error:
            print(f"{verb}: {error} Run {run_id} may go on: {url}", file=sys.stderr)
            return 1
    state = run["state"]
    why = printable(str(state.get("message") or ""))
    print(f"{verb}: the run ended as {state['name']}{f': {why}' if why else ''}", file=sys.stderr)
    if state["type"] == "COMPLETED":
        return 0
    print(f"{verb}: its log, its report and Retry are at {url}", file=sys.stderr)
    return 1


def require_served(deployment: str) -> dict[str, Any]:
    """Return a deployment that somebody serves. A run that is created without would wait, and begin when nobody looks.

    Raises:
        ConfigError: Prefect's address is not set, or its server has no such deployment.
        Unreachable: the server does not answer, or nobody serves the deployment.

    """
    with Server() as server:
        deployed = _deployment(server, deployment)
        _require_asked_for(server, deployed, deployment)
        return deployed


def _deployment(server: Server, name: str) -> dict[str, Any]:
    try:
        return server.deployment(name)
    except NotThere:
        raise ConfigError(
            f"the Prefect server at {server.settings.shown} has no deployment {name}.", hint=_SERVE
        ) from None


def _asked_just_now(server: Server, deployed: dict[str, Any]) -> bool:
    """Return whether somebody asked for the deployment's runs within the last seconds, by the server's own clock."""
    try:
        polled = datetime.fromisoformat(str(deployed.get("last_polled")).replace("Z", "+00:00"))
        return server.answered_at is not None and abs(server.answered_at - polled) < JUST_NOW
    except (ValueError, TypeError):
        return False


def _require_asked_for(server: Server, deployed: dict[str, Any], name: str) -> None:
    """Return once somebody asks for the deployment's runs: its last time is no proof, who asked may have ended since.

    Prefect's own status of a deployment follows a minute late.

    Raises:
        Unreachable: nobody does.

    """
    ends = clock.monotonic() + SOON_S
    while clock.monotonic() < ends:
        clock.sleep(LOOK_S)
        if server.deployment(name).get("last_polled") != deployed.get("last_polled"):
            return
    raise Unreachable(f"nobody serves {name}, so nothing was started.", hint=_SERVE)


def _require_taken(server: Server, deployed: dict[str, Any], name: str, run_id: str) -> None:
    """Return once somebody has taken the run, or asks for runs. Otherwise cancel it: nobody would expect it later.

    Raises:
        Unreachable: nobody did.

    """
    ends = clock.monotonic() + SOON_S
    while clock.monotonic() < ends:
        if server.run(run_id)["state"]["type"] != "SCHEDULED":
            return
        if server.deployment(name).get("last_polled") != deployed.get("last_polled"):
            return
        clock.sleep(LOOK_S)
    server.cancel(run_id)
    raise Unreachable(f"nobody serves {name}, so the run was cancelled before it began.", hint=_SERVE)


def _given_up(deployment: str, key: str) -> str:
    """Return what becomes of the run that was followed. One that has not begun is cancelled: nobody would expect it."""
    try:
        with Server() as server:
            run = server.run_by_key(key)
            if run is None:
                return "nothing was started."
            run_id, state = run["id"], run["state"]
            if state["type"] in ENDED:
                return f"run {run_id} has ended already: {state['name']}."
            begun = state["type"] not in _NOT_BEGUN
            if begun and not _wants_it_cancelled(run_id):
                return f"run {run_id} continues without you. To cancel it: prefect flow-run cancel {run_id}"
            server.cancel(run_id)
    except HoldfastError:
        return (
            "the Prefect server does not answer, so a run of"
            f" {deployment} may go on: look there, and cancel it if you wish."
        )
    if not begun:
        return f"run {run_id} had not begun, and is cancelled."
    return f"run {run_id} is told to stop at the next safe point; its log says where the machine is then."


def _wants_it_cancelled(run_id: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        answer = input(f"\nRun {run_id} continues without you. Cancel it? [y/N] ")
    except (KeyboardInterrupt, EOFError):
        return False
    return answer.strip().lower() in ("y", "yes")
