"""The target fetches an image that a URL names: when it may, what it is told, and that its failure is an upload."""

import base64
import hashlib
from pathlib import Path

import pytest

from holdfast.base.brake import Stopped, obeying
from holdfast.inventory.reference import Download
from holdfast.target.fetching import fetch
from holdfast.target.machine import Machine
from tasks.kexec import _upload
from tests.log import Remembered
from tests.unit.cases import built, host
from tests.unit.programs import Command, Done
from tests.unit.target import FakeMachine

DIGEST = hashlib.sha256(b"image")
SHA256 = DIGEST.hexdigest()
HASH = f"sha256-{base64.b64encode(DIGEST.digest()).decode()}"
URL = "https://example.org/kexec.tar"
PLACE = "/var/lib/holdfast/0123.tar"


def fetched(url: str = URL, hash_: str = HASH, seen: list[tuple[int, int]] | None = None) -> str:
    told = seen if seen is not None else []
    return fetch(
        Machine(host(), Remembered()),
        Download(url, hash_),
        PLACE,
        size_bytes=300,
        sha256=SHA256,
        timeout_s=60,
        on_progress=lambda done, total: told.append((done, total)),
    )


def test_it_is_told_what_to_fetch_and_how_much(machine: FakeMachine) -> None:
    seen: list[tuple[int, int]] = []
    machine.on("fetch.sh", lambda _: "100\n200\n999\nthere\n")
    assert fetched(seen=seen) == ""
    assert machine.told("fetch.sh") == [[PLACE, "300", SHA256, "60", URL]]
    assert seen == [(100, 300), (200, 300), (300, 300), (300, 300)]


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@example.org/kexec.tar",
        "https://hunter2@example.org/kexec.tar",
        "https://example.org/kexec.tar?token=hunter2",
    ],
)
def test_a_url_with_a_secret_never_reaches_the_target(machine: FakeMachine, url: str) -> None:
    why = fetched(url)
    assert "may be a secret" in why
    assert "hunter2" not in why
    assert machine.sent == []


def test_another_file_than_this_runs_is_not_fetched(machine: FakeMachine) -> None:
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert "is not that of this run's image" in fetched(hash_=f"sha256-{other}")
    assert machine.sent == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            Done("100\nno: curl ended with status 6: curl: (6) \x1b[2J\n"),
            r"curl ended with status 6: curl: (6) \x1b[2J",
        ),
        (Done(stderr="sh: syntax error", status=2), "syntax error"),
        (Done(""), "fetch.sh"),
    ],
)
def test_why_it_did_not(machine: FakeMachine, answer: Done, why: str) -> None:
    machine.on("fetch.sh", lambda _: answer)
    assert why in fetched()


def test_a_link_that_breaks_is_a_reason(machine: FakeMachine) -> None:
    machine.on("fetch.sh", lambda _: machine.cut())
    assert fetched() == "the link to cottage broke."


def test_a_run_that_is_cancelled_stops_it(machine: FakeMachine) -> None:
    machine.on("fetch.sh", lambda _: "100\n200\nthere\n")
    asked = iter([False, True])
    with pytest.raises(Stopped), obeying(lambda: next(asked)):
        machine.clock.sleep(60)
        fetched()


@pytest.mark.usefixtures("server", "log")
@pytest.mark.parametrize("fetches", [True, False])
def test_only_what_was_not_fetched_is_uploaded(machine: FakeMachine, tmp_path: Path, fetches: bool) -> None:
    image = tmp_path / "kexec.tar"
    image.write_bytes(b"image")

    def serve(command: Command) -> str:
        if not fetches:
            return "no: there is neither curl nor wget\n"
        machine.files[command.args[0]] = b"image"
        return "there\n"

    machine.on("fetch.sh", serve)
    here = Machine(host(kexec=f"{URL}#sha256={SHA256}"), Remembered())
    _upload(here, built(image=str(image), image_sha256=SHA256), PLACE)
    assert machine.told("fetch.sh") == [[PLACE, "5", SHA256, "1800", URL]]
    assert bool(machine.told("upload-append.sh")) != fetches
    assert machine.files[PLACE] == b"image"
