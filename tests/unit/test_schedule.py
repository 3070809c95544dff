"""When a host is installed by itself: what a schedule may say, and the one line that a mistake in it earns."""

import re
from pathlib import Path

import httpx
import pytest

from deployments import serve
from deployments.schedule import check_schedule, schedule_of
from holdfast.base.errors import ConfigError
from holdfast.inventory.host import Host
from holdfast.inventory.loading import load_inventory

# Prefect takes them all for valid, or at least does not say what is wrong; or the inventory's parser does.
WRONG = [
    ('"0 25 * * *"', "cron", "bad hour"),
    ('"60 * * * *"', "cron", "bad minute"),
    ('"0 3 32 * *"', "cron", "bad day-of-month"),
    ('"0 3 0 * *"', "cron", "bad day-of-month"),
    ('"0 3 * 13 *"', "cron", "bad month"),
    ('"0 3 * * 8"', "cron", "bad day-of-week"),
    ('"0 3 * * someday"', "cron", "bad day-of-week"),
    ('"0 3 * Foo *"', "cron", "bad month"),
    ('"0 5-3 * * *"', "cron", "bad hour"),
    ('"1- 3 * * *"', "cron", "bad minute"),
    ('"-1 3 * * *"', "cron", "bad minute"),
    ('"1,,2 3 * * *"', "cron", "bad minute"),
    ('"*/0 * * * *"', "cron", "bad minute"),
    ('"0 3 30 2 *"', "cron", "bad day-of-month"),
    ('"0 3 31 4,6,9,11 *"', "cron", "bad day-of-month"),
    ('"@daily"', "cron", "five fields"),
    ('"0 0 3 * * 6"', "cron", "five fields"),
    ('"0 3 * *"', "cron", "five fields"),
    ('" 0 3 * * 6"', "cron", "five fields"),
    ('"0 3 * * 6\\n"', "cron", "five fields"),
    ('""', "cron", "five fields"),
    ('"R R * * *"', "cron", "bad minute"),
    ('"H 3 * * *"', "cron", "bad minute"),
    ('"٣ 3 * * *"', "cron", "bad minute"),
    ('{ cron = "0 25 * * *", timezone = "UTC" }', "cron", "bad hour"),
    ('{ cron = "0 3 * * 6", timezone = "Europe/Helsinky" }', "timezone", "no time zone"),
    ('{ cron = "0 3 * * 6", timezone = "" }', "timezone", "no time zone"),
    ('{ cron = "0 3 * * 6", timezone = "+02:00" }', "timezone", "no time zone"),
    ('{ cron = "0 3 * * 6", timezone = "../../etc/passwd" }', "timezone", "no time zone"),
    ('{ cron = "0 3 * * 6", timezone = 2 }', "timezone", "string"),
    ('{ timezone = "UTC" }', "cron", "missing"),
    ('{ cron = "0 3 * * 6", zone = "UTC" }', "zone", "Did you mean 'timezone'"),
    ("5", "schedule", "neither a cron line nor a table"),
    ('["0 3 * * 6"]', "schedule", "neither a cron line nor a table"),
]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts.toml"
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    return path


def loaded(path: Path, schedule: str) -> Host:
    path.write_text(f"[barn]\n[cottage]\nschedule = {schedule}\n")
    return load_inventory(path).host("cottage")


@pytest.mark.parametrize(("schedule", "key", "why"), WRONG)
def test_wrong_schedule_names_file_host_and_key(inventory: Path, schedule: str, key: str, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(inventory, schedule)
    said = str(error.value)
    written = "schedule" if schedule.startswith('"') else key
    assert said.startswith(f"{inventory}: [cottage] ")
    assert re.search(rf"\b{written}( is |:|'|;)", said)
    assert why in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ('"0 25 * * *"', "bad hour"),
        ('"0 3 LW * *"', "Invalid cron string"),
        ('"0 3 * * 6L"', ""),
        ('"0 3 31 2 1"', ""),
        ('{ cron = "0 3 * * 6", timezone = "posixrules" }', "Invalid timezone"),
    ],
)
def test_serve_ends_with_one_line_before_it_serves_anything(
    inventory: Path, schedule: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(serve, "ensure_dead_runs_are_marked", lambda: asked.append("automation"))
    monkeypatch.setattr(serve, "serve", lambda *_served, **_options: asked.append("serve"))
    inventory.write_text(f"[barn]\n[cottage]\nschedule = {schedule}\n")
    assert serve.main() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"serve: {inventory}: [cottage] schedule")
    assert why in line
    assert "https:" not in line
    assert "Hint: " in line
    assert asked == []


def test_serve_without_a_server_ends_with_one_line(
    inventory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(serve, "ensure_dead_runs_are_marked", refuse)
    monkeypatch.setattr(serve, "serve", lambda *_served, **_options: pytest.fail("it serves"))
    monkeypatch.setattr(serve, "require_server_address", lambda: "http://127.0.0.1:1/api")
    inventory.write_text("[cottage]\n")
    assert serve.main() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("serve: the Prefect server does not answer, or refuses: connection refused. Hint: ")


@pytest.mark.parametrize(
    ("schedule", "cron", "zone"),
    [
        ('"0 3 * * 6"', "0 3 * * 6", "UTC"),
        ('"*/15 1-4,6 1 jan,JUL *"', "*/15 1-4,6 1 jan,JUL *", "UTC"),
        ('"0 3 * * sat"', "0 3 * * sat", "UTC"),
        ('"0 3 29 2 *"', "0 3 29 2 *", "UTC"),
        ('"0 3 * * 0-7"', "0 3 * * 0-7", "UTC"),
        ('{ cron = "0 3 * * 6" }', "0 3 * * 6", "UTC"),
        ('{ cron = "0 3 * * 6", timezone = "Europe/Helsinki" }', "0 3 * * 6", "Europe/Helsinki"),
    ],
)
def test_right_schedule_reaches_prefect(inventory: Path, schedule: str, cron: str, zone: str) -> None:
    host = loaded(inventory, schedule)
    check_schedule(inventory, host)
    made = schedule_of(host)
    assert made is not None
    assert (made.cron, made.timezone) == (cron, zone)


def test_without_a_schedule_there_is_none(inventory: Path) -> None:
    inventory.write_text("[cottage]\n")
    host = load_inventory(inventory).host("cottage")
    check_schedule(inventory, host)
    assert schedule_of(host) is None


def test_defaults_may_hold_it(inventory: Path) -> None:
    inventory.write_text('[defaults]\nschedule = "0 25 * * *"\n[cottage]\n')
    with pytest.raises(ConfigError, match=r"\[defaults\] schedule is '0 25 \* \* \*'"):
        load_inventory(inventory)
