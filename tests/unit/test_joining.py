"""Phases that find the work of another run, or the lock of one: what they do then, and what they leave alone."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, ConfigError, ConnectionLost, Restarted, TargetRefused, UnexpectedState
from holdfast.base.waiting import wait_for
from holdfast.plan.results import Preserved, Started
from holdfast.target import dead_man, standby, trial
from tasks import install, kexec, partition
from tests.unit.cases import built, facts, host, plan

SEEN = facts("installer", partition_mark="")
HOST = host()
PLAN = plan(SEEN, HOST)
STORE = "/nix/store/" + "a" * 32
BUILT = built(toplevel=f"{STORE}-system", disko_script=f"{STORE}-disko", mount_script=f"{STORE}-mount")


class Play:
    """A target, and all that a phase calls, written down in the order of the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ran: list[tuple[list[str], bytes | None]] = []
        self.begun = False
        self.refused = False
        self.no_trial = ""
        self.fails_with: list[str] = []
        self.detached: dict[str, Any] = {}
        self.looks = [SEEN]
        self.boot_id = SEEN.boot_id
        self.files: dict[str, bytes] = {}
        self.endpoint = SimpleNamespace(host="cottage")
        self.digests: list[str] = []
        self.starts: list[Callable[[], int]] = []

    @contextlib.contextmanager
    def arrive(self, _host: object, *, boot_id: str = "") -> Iterator["Play"]:
        if boot_id not in ("", self.boot_id):
            raise Restarted("cottage was rebooted.")
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

    def run_detached(self, reconnect: Any, name: str, argv: Sequence[str], **options: Any) -> None:
        with reconnect():
            self.calls.append("detached")
        self.detached = {"name": name, "argv": list(argv), **options}
        if self.fails_with:
            raise CommandFailed(CommandResult(tuple(argv), "cottage", 1, self.fails_with.pop(0), "", 1.0))

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None, **_options: object
    ) -> CommandResult:
        assert timeout_s > 0
        self.calls.append(f"run {argv[0]}")
        self.ran.append((list(argv), stdin))
        status = self.starts.pop(0)() if argv[0] == "setsid" and self.starts else 0
        return CommandResult(tuple(argv), "cottage", status, "what it wrote", "", 1.0)

    def run_script(self, _script: str, args: Sequence[str], *, timeout_s: float) -> SimpleNamespace:
        assert timeout_s > 0
        self.calls.append(f"digests {' '.join(args)}")
        return SimpleNamespace(stdout=f"{self.digests.pop(0)}\n")

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

    def reboots_after(self, name: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        def call_and_reboot(*_args: object, **_options: object) -> None:
            self.calls.append(name)
            self.boot_id = "0" * 36

        monkeypatch.setattr(module, name, call_and_reboot)

    def into(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "reach_soon", self.arrive)
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
    monkeypatch.setattr(trial, "why_not", lambda *_given: made.no_trial)
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


def test_partition_has_the_keys_in_ram_only_while_it_formats(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def keys(_host: object, connect: Callable[[], Any], **_options: object) -> Iterator[None]:
        with connect():
            play.calls.append("keys")
        try:
            yield
        finally:
            play.calls.append("keys gone")

    monkeypatch.setattr(partition, "keys_in_ram", keys)
    body(partition.partition)(HOST, PLAN, BUILT)
    first = play.calls.index("keys")
    # A key that cannot be written leaves the dead-man armed.
    assert play.calls[first : first + 6] == ["keys", "disarm", "say", "detached", "keys gone", "mount_again"]
    play.calls.clear()
    play.fails_with = ["disko: no key"]
    with pytest.raises(CommandFailed):
        body(partition.partition)(HOST, PLAN, BUILT)
    assert play.calls[-2:] == ["detached", "keys gone"]


TWO = {"disks": "vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA"}


def test_partition_proves_the_kept_disk_untouched(play: Play) -> None:
    play.looks = [facts("installer", **TWO)]
    play.digests = [f"/dev/vdb {'a' * 64} {'b' * 64}"] * 2
    body(partition.partition)(HOST, PLAN, BUILT)
    expected = ["digests /dev/vdb", "disarm", "say", "detached", "digests /dev/vdb", "mount_again"]
    assert [call for call in play.calls if call in expected][:6] == expected


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (f"/dev/vdb {'a' * 64} {'c' * 64}", "/dev/vdb changed"),
        ("/dev/vdb unreadable", "/dev/vdb cannot be read any more"),
        ("/dev/vdb gone", "/dev/vdb cannot be read any more"),
    ],
)
def test_partition_names_a_kept_disk_that_changed(play: Play, after: str, said: str) -> None:
    play.looks = [facts("installer", **TWO)]
    play.digests = [f"/dev/vdb {'a' * 64} {'b' * 64}", after]
    with pytest.raises(UnexpectedState, match=said):
        body(partition.partition)(HOST, PLAN, BUILT)
    # Nothing is formatted again all the same, and the new disk boots the installer.
    assert len(play.files) == 2
    assert "standby arm" in play.calls


def test_partition_goes_on_beside_a_disk_that_cannot_be_read(play: Play) -> None:
    play.looks = [facts("installer", **TWO)]
    play.digests = ["/dev/vdb unreadable", f"/dev/vdb {'a' * 64} {'b' * 64}"]
    body(partition.partition)(HOST, PLAN, BUILT)
    assert "warn" in play.calls


def test_partition_formats_nothing_if_the_digests_are_not_told(play: Play) -> None:
    play.looks = [facts("installer", **TWO)]
    for said in ("", "/dev/vdc gone", "/dev/vdb x y"):
        play.digests = [said]
        with pytest.raises(UnexpectedState, match="did not say what is on /dev/vdb"):
            body(partition.partition)(HOST, PLAN, BUILT)
    assert not {"detached", "disarm"} & set(play.calls)


def test_partition_that_only_joins_takes_no_digests(play: Play) -> None:
    play.looks, play.begun = [facts("installer", **TWO)], True
    body(partition.partition)(HOST, PLAN, BUILT)
    assert "digests /dev/vdb" not in play.calls


def test_install_that_has_begun_is_only_followed(play: Play) -> None:
    assert not body(install.install)(HOST, PLAN, BUILT, Preserved()).boot_loader
    work = f"holdfast install {PLAN.digest(BUILT.disko_script)} {BUILT.toplevel}, no boot loader"
    assert play.calls[:4] == ["look", "hold", "mount_again", f"has begun: {work}"]
    # The standby stays: the boot loader comes when the system has proved that it comes up.
    assert play.calls[4:] == ["copy_closure", "look", "carry_over", "detached", "say"]
    assert play.detached["work"] == work
    assert play.detached["argv"][-2:] == [BUILT.toplevel, "--no-bootloader"]
    play.begun = True
    play.calls.clear()
    body(install.install)(HOST, PLAN, BUILT, Preserved())
    assert not {"copy_closure", "carry_over"} & set(play.calls)
    assert play.detached["begun"] is True


def test_install_without_a_trial_puts_the_boot_loader_last(play: Play) -> None:
    play.no_trial = "the root is encrypted"
    assert body(install.install)(HOST, PLAN, BUILT, Preserved()).boot_loader
    # A disk that boots holds a machine that is itself.
    assert play.calls[-5:] == ["look", "carry_over", "detached", "warn", "standby remove"]
    assert play.detached["work"] == f"holdfast install {PLAN.digest(BUILT.disko_script)} {BUILT.toplevel}"
    assert play.detached["argv"][-1] == BUILT.toplevel
    play.calls.clear()
    body(install.install)(host(standby=False), PLAN, BUILT, Preserved())
    # One that an earlier run armed would keep the node's state on the boot partition.
    assert play.calls[-2:] == ["detached", "standby remove"]


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


@pytest.fixture
def at_origin(play: Play, monkeypatch: pytest.MonkeyPatch) -> Play:
    """A target in its origin, which does not let a wait take long."""
    play.looks = [facts("debian-12")]
    play.boot_id = play.looks[0].boot_id
    monkeypatch.setattr(kexec, "wait_for", functools.partial(wait_for, pause_s=0))
    return play


def start_installer() -> Started:
    started = body(kexec.kexec)(HOST, plan(facts("debian-12"), HOST), BUILT)
    assert isinstance(started, Started)
    return started


def which_starts(play: Play) -> list[str]:
    """What each start was told: whether it is the first, or comes after a link that broke."""
    return [argv[argv.index("alone") + 1] for argv, _ in play.ran if argv[0] == "setsid"]


def breaks() -> int:
    raise ConnectionLost("the link to cottage broke.")


def test_kexec_starts_nothing_on_another_boot_than_it_looked_at(
    at_origin: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start_installer().kexec_at > time.time() - 60
    assert at_origin.calls == ["look", "hold", "run install", "upload_over_links", "say", "run setsid"]
    at_origin.calls.clear()
    at_origin.reboots_after("upload_over_links", kexec, monkeypatch)
    with pytest.raises(Restarted):
        start_installer()
    assert at_origin.calls[-3:] == ["upload_over_links", "say", "look"]


def test_kexec_goes_on_when_its_first_look_broke_off(at_origin: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Callable[[], object]] = [breaks, at_origin.looks.pop]
    monkeypatch.setattr(kexec, "look", lambda _target: looks.pop(0)())
    assert start_installer().kexec_at


def test_kexec_waits_for_a_start_that_another_link_left_behind(at_origin: Play) -> None:
    # It is not unpacked a second time under a kexec/run that goes on; that one fails in the end, and this starts it.
    at_origin.starts = [breaks, lambda: kexec.BUSY, lambda: kexec.BUSY, lambda: 0]
    assert start_installer().kexec_at
    assert which_starts(at_origin) == ["first", "again", "again", "again"]


def test_kexec_of_which_nothing_was_heard_has_left(at_origin: Play) -> None:
    def leaves() -> int:
        at_origin.boot_id, at_origin.looks = "0" * 36, [SEEN]
        return breaks()

    at_origin.starts = [leaves]
    assert start_installer().kexec_at
    assert which_starts(at_origin) == ["first"]


def test_start_of_another_worker_is_not_this_ones(at_origin: Play) -> None:
    def leaves() -> int:
        at_origin.boot_id, at_origin.looks = "0" * 36, [SEEN]
        return kexec.BUSY

    at_origin.starts = [leaves]
    assert start_installer().kexec_at == 0


def test_kexec_that_ended_in_the_origin_again_is_not_repeated(at_origin: Play) -> None:
    # The installer panicked, or the power failed: somebody has to look.
    def comes_back() -> int:
        at_origin.boot_id = "0" * 36
        return breaks()

    at_origin.starts = [comes_back]
    with pytest.raises(Restarted):
        start_installer()
    assert which_starts(at_origin) == ["first"]


def test_kexec_that_fails_says_what_it_wrote(at_origin: Play) -> None:
    at_origin.starts = [lambda: 1]
    with pytest.raises(CommandFailed, match=r"^`/var/lib/holdfast/\w+/kexec/run --run-id .* status 1: what it wrote$"):
        start_installer()
    assert which_starts(at_origin) == ["first"]


def test_kexec_has_the_secrets_on_standard_input_only(play: Play, tmp_path: Path) -> None:
    origin = facts("debian-12")
    (tmp_path / "portal").write_text("poison-of-the-user")
    told = host(installer_secrets=[{"name": "portal", "from": tmp_path / "portal"}])
    play.looks, play.boot_id = [origin], origin.boot_id
    made = body(kexec.kexec)(told, plan(origin, told), BUILT)
    argv, stdin = play.ran[-1]
    assert stdin is not None
    assert b"poison-of-the-user" in stdin
    assert argv[-2:] == ["--secrets", str(len(stdin))]
    assert not any("poison" in word for ran, _ in play.ran for word in ran)
    assert "poison" not in made.model_dump_json() + plan(origin, told).model_dump_json()
    assert [content for _, content in play.ran[:-1]] == [None] * (len(play.ran) - 1)
    (tmp_path / "portal").unlink()
    play.calls.clear()
    with pytest.raises(ConfigError, match="portal"):
        body(kexec.kexec)(told, plan(origin, told), BUILT)
    assert "run setsid" not in play.calls


@pytest.mark.parametrize("moment", ["same_disks", "copy_closure", "disarm"])
def test_partition_formats_nothing_on_another_boot(play: Play, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    # Met in the lab: the power failed during an upload, the origin answered, and was told to run disko.
    play.reboots_after(moment, dead_man if moment == "disarm" else partition, monkeypatch)
    with pytest.raises(Restarted):
        body(partition.partition)(HOST, PLAN, BUILT)
    assert "detached" not in play.calls


@pytest.mark.parametrize("moment", ["mount_again", "copy_closure", "carry_over"])
def test_install_does_nothing_on_another_boot(play: Play, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    play.reboots_after(moment, install, monkeypatch)
    with pytest.raises(Restarted):
        body(install.install)(HOST, PLAN, BUILT, Preserved())
    assert "detached" not in play.calls
