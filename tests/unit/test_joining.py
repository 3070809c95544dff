"""Phases that find the work of another run, or the lock of one: what they do then, and what they leave alone."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tasks import install, kexec, partition
from tasks.model.errors import TargetRefused, UnexpectedState
from tasks.model.results import Built, Preserved, Started
from tasks.remote import dead_man, standby
from tests.unit.cases import facts, host, plan

SEEN = facts("installer", partition_mark="")
HOST = host()
PLAN = plan(SEEN, HOST)
STORE = "/nix/store/" + "a" * 32
BUILT = Built(
    image="/image.tar",
    image_sha256="ab" * 32,
    toplevel=f"{STORE}-system",
    disko_script=f"{STORE}-disko",
    mount_script=f"{STORE}-mount",
    closure_bytes=1,
    tailscale=True,
    nix_version="2.26.3",
)


class Play:
    """A target, and all that a phase calls, written down in the order of the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.begun = False
        self.refused = False
        self.detached: dict[str, Any] = {}
        self.looks = [SEEN]
        self.files: dict[str, bytes] = {}

    @contextlib.contextmanager
    def arrive(self, _host: object) -> Iterator["Play"]:
        yield self

    def look(self, _target: object) -> object:
        self.calls.append("look")
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def hold_target(self, _target: object, _facts: object) -> None:
        self.calls.append("hold")
        if self.refused:
            raise TargetRefused("another run works on cottage.")

    def has_begun(self, _target: object, work: str) -> bool:
        self.calls.append(f"has begun: {work}")
        return self.begun

    def run_detached(self, _reconnect: object, name: str, argv: Sequence[str], **options: Any) -> None:
        self.calls.append("detached")
        self.detached = {"name": name, "argv": list(argv), **options}

    def run(self, argv: Sequence[str], *, timeout_s: float, **_options: object) -> None:
        assert timeout_s > 0
        self.calls.append(f"run {argv[0]}")

    def write_file(self, path: str, data: bytes, *, mode: int, timeout_s: float) -> None:
        assert (mode, timeout_s > 0) == (0o644, True)
        self.files[path] = data

    @contextlib.contextmanager
    def lines(self) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(add=lambda _line: None)

    @contextlib.contextmanager
    def progress(self, _key: str, _description: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda _done, _total: None

    def called(self, name: str, *_args: object, **_options: object) -> None:
        self.calls.append(name)

    def into(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("arrive", "look", "hold_target", "has_begun", "run_detached", "lines", "progress"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(self, name))
        for name in ("carry_over", "copy_closure", "mount_again", "same_disks", "say", "upload_over_links", "warn"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, functools.partial(self.called, name))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    made = Play()
    for module in (partition, install, kexec):
        made.into(module, monkeypatch)
    monkeypatch.setattr(dead_man, "disarm", functools.partial(made.called, "disarm"))
    for name in ("bring", "arm", "remove"):
        monkeypatch.setattr(standby, name, functools.partial(made.called, f"standby {name}"))
    return made


def body(phase: Any) -> Any:
    """Return a phase without Prefect and without the journal."""
    return phase.fn.__wrapped__


def test_partition_of_an_untouched_machine(play: Play) -> None:
    body(partition.partition)(HOST, PLAN, BUILT)
    work = f"holdfast partition {PLAN.digest(BUILT.disko_script)}"
    # All that the standby needs is there before anything is destroyed; it is armed when the disk has its mark.
    expected = ["look", "hold", f"has begun: {work}", "same_disks", "copy_closure", "standby bring", "disarm", "say"]
    assert play.calls == [*expected, "detached", "mount_again", "run install", "run install", "standby arm", "say"]
    assert (play.detached["work"], play.detached["begun"]) == (work, False)
    assert play.detached["argv"] == [BUILT.disko_script]


def test_partition_that_has_begun_is_only_followed_and_marked(play: Play) -> None:
    play.begun = True
    body(partition.partition)(HOST, PLAN, BUILT)
    assert "same_disks" not in play.calls
    assert "copy_closure" not in play.calls
    assert play.detached["begun"] is True
    assert [json.loads(mark)["plan_digest"] for mark in play.files.values()] == [PLAN.digest(BUILT.disko_script)] * 2


def test_install_that_has_begun_is_only_followed(play: Play) -> None:
    body(install.install)(HOST, PLAN, BUILT, Preserved())
    assert play.calls[:3] == ["look", "hold", f"has begun: {play.detached['work']}"]
    # The boot loader comes last: a disk that boots holds a machine that is itself.
    assert play.calls[-6:] == ["mount_again", "copy_closure", "look", "carry_over", "detached", "standby remove"]
    assert play.detached["work"] == f"holdfast install {PLAN.digest(BUILT.disko_script)} {BUILT.toplevel}"
    play.begun = True
    play.calls.clear()
    body(install.install)(HOST, PLAN, BUILT, Preserved())
    assert not {"copy_closure", "carry_over"} & set(play.calls)
    assert play.detached["begun"] is True


def test_lock_of_another_run_stops_a_phase_before_it_changes_anything(play: Play) -> None:
    play.refused = True
    for phase, more in ((partition.partition, ()), (install.install, (Preserved(),))):
        with pytest.raises(TargetRefused):
            body(phase)(HOST, PLAN, BUILT, *more)
    origin = facts("debian-12")
    play.looks = [origin]
    with pytest.raises(TargetRefused):
        body(kexec.kexec)(HOST, plan(origin, HOST), BUILT)
    assert play.calls == ["look", "hold"] * 3


def test_kexec_starts_nothing_on_another_boot_than_it_looked_at(play: Play) -> None:
    origin = facts("debian-12")
    play.looks = [origin, origin]
    assert isinstance(body(kexec.kexec)(HOST, plan(origin, HOST), BUILT), Started)
    expected = ["look", "hold", "run install", "upload_over_links", "look", "run tar", "say", "run setsid"]
    assert play.calls == expected
    play.calls.clear()
    play.looks = [origin, origin.model_copy(update={"boot_id": "0" * 36})]
    with pytest.raises(UnexpectedState, match=r"was rebooted while the image was uploaded.*Retry the run"):
        body(kexec.kexec)(HOST, plan(origin, HOST), BUILT)
    assert play.calls[-1] == "look"
