"""The automation that marks dead runs: what it reacts to, and that serving again does not pile it up."""

from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.events.schemas.automations import Automation, AutomationCore

from deployments import automations
from deployments.automations import DEAD_AFTER_S, DEAD_RUNS, HEARTBEAT_S, TAG


class Server:
    """What the Prefect server knows of automations."""

    def __init__(self, *known: Automation) -> None:
        self.known = {automation.id: automation for automation in known}

    def read_automations_by_name(self, name: str) -> list[Automation]:
        return [automation for automation in self.known.values() if automation.name == name]

    def create_automation(self, automation: AutomationCore) -> UUID:
        made = Automation(id=uuid4(), **automation.model_dump())
        self.known[made.id] = made
        return made.id

    def update_automation(self, automation_id: UUID, automation: AutomationCore) -> None:
        self.known[automation_id] = Automation(id=automation_id, **automation.model_dump())

    def delete_automation(self, automation_id: UUID) -> None:
        del self.known[automation_id]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    @contextmanager
    def client(*, sync_client: bool) -> Any:
        assert sync_client
        yield server

    monkeypatch.setattr(automations, "get_client", client)
    return server


def as_known(**changes: object) -> Automation:
    return Automation(id=uuid4(), **(DEAD_RUNS.model_dump() | changes))


def test_made_once(server: Server) -> None:
    automations.ensure_dead_runs_are_marked()
    [first] = server.known
    automations.ensure_dead_runs_are_marked()
    assert list(server.known) == [first]


def test_older_one_is_brought_up_to_date_and_doubles_go(server: Server) -> None:
    old, double, other = as_known(description="old"), as_known(), as_known(name="somebody else's")
    server.known = {each.id: each for each in (old, double, other)}
    automations.ensure_dead_runs_are_marked()
    assert server.known[old.id].description == DEAD_RUNS.description
    assert set(server.known) == {old.id, other.id}


def test_paused_one_stays_paused(server: Server) -> None:
    paused = as_known(enabled=False)
    server.known = {paused.id: paused}
    automations.ensure_dead_runs_are_marked()
    assert server.known[paused.id].enabled is False


def test_it_is_about_our_runs_only() -> None:
    shown = DEAD_RUNS.model_dump(mode="json")
    assert f"prefect.tag.{TAG}" in str(shown["trigger"]["match_related"])
    assert DEAD_AFTER_S >= 3 * HEARTBEAT_S
    assert shown["actions"][0]["state"] == "CRASHED"
