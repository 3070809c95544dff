"""Phases that find the work of another run, or the lock of one: what they do then, and what they leave alone."""

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from holdfast.base.errors import (
    CommandFailed,
    ConfigError,
    ConnectionLost,
    HoldfastError,
    Restarted,
    TargetRefused,
    UnexpectedState,
)
from holdfast.base.places import MARK_IN_RAM, MARK_ON_DISK
from holdfast.facts.marks import PartitionMark
from holdfast.plan.results import Built, Preserved, Started
from tasks import partition as partition_file
from tasks.install import install
from tasks.kexec import BUSY, kexec
from tasks.partition import partition
from tests.log import Remembered
from tests.unit.cases import KEXEC_RUN, built, facts, host, plan
from tests.unit.desk import Desk
from tests.unit.firmware import GUARDED
from tests.unit.programs import Command, Done
from tests.unit.server import Server, body
from tests.unit.target import KEYS_AT_MOST_S, RUN, FakeMachine
from tests.unit.test_image import whole, write

HOST = host()
PLAN = plan(facts("debian-12"), HOST, run_id=RUN)
STORE = "/nix/store/" + "a" * 32
OTHER = "0d2b3c4d-ffff-4bbb-8ccc-444455556666"
UNIT = f"{RUN[:8]}.service"
CARRIED = "carried over: host-keys tailscale-state"

pytestmark = pytest.mark.usefixtures("desk", "server")


@pytest.fixture
def made(tmp_path: Path) -> Built:
    image = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    paths = {"disko_script": f"{STORE}-disko", "mount_script": f"{STORE}-disko-mount"}
    return built(toplevel=f"{STORE}-system", image=str(image), **paths)


@pytest.fixture
def installer(machine: FakeMachine) -> FakeMachine:
    """The machine in the installer of this run."""
    machine.is_in("installer")
    return machine


@pytest.fixture
def formatted(installer: FakeMachine) -> FakeMachine:
    """The same, with the disks formatted and the standby armed."""
    installer.mounted = installer.standby = True
    installer.disk = "installer"
    return installer


def soon(machine: FakeMachine) -> Callable[[], object]:
    """Let the power fail when the answer to this command was heard."""
    return lambda: machine.clock.at(0.05, machine.reset)


def long_ago(machine: FakeMachine) -> Callable[[], object]:
    """Let the power fail, and the machine be back before anybody looks."""

    def reset_and_boot() -> None:
        machine.reset()
        machine.clock.sleep(60)

    return reset_and_boot


def test_partition_of_an_untouched_machine(installer: FakeMachine, made: Built) -> None:
    body(partition)(HOST, PLAN, made)
    # All that the standby needs is there before anything is destroyed; it is armed when the disk has its mark.
    assert installer.story == [
        "locked",
        "copied to /: disko",
        "/run/holdfast/standby/command-line written",
        "dead-man fed",
        "kernel uploaded",
        "dead-man fed",
        "initrd uploaded",
        "dead-man stopped",
        "disks formatted",
        f"{MARK_ON_DISK} written",
        f"{MARK_IN_RAM} written",
        "standby armed",
        GUARDED,
    ]
    unit = installer.units[f"holdfast-partition-{UNIT}"]
    assert unit.work == f"holdfast partition {PLAN.layout_digest}"
    [started] = installer.told("unit-start.sh")
    assert started[started.index("--") + 1 :] == [made.disko_script]


def begins_formatting(machine: FakeMachine, made: Built) -> None:
    """Let another run have begun it."""
    work = f"holdfast partition {PLAN.layout_digest}"
    machine.start_unit("holdfast-partition-0ther.service", work, [made.disko_script])


def test_partition_that_has_begun_is_only_followed_and_marked(installer: FakeMachine, made: Built) -> None:
    begins_formatting(installer, made)
    installer.shows("installer", disks="sdz size 8\n")  # half formatted, nobody compares the disks
    body(partition)(HOST, PLAN, made)
    marks = [f"{MARK_ON_DISK} written", f"{MARK_IN_RAM} written"]
    assert installer.story == ["locked", "dead-man stopped", "disks formatted", *marks]
    assert installer.told("unit-start.sh") == []
    digest = PLAN.layout_digest
    assert [json.loads(installer.files[place])["plan_digest"] for place in (MARK_ON_DISK, MARK_IN_RAM)] == [digest] * 2


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (PLAN.system.lock.short, []),
        ("", []),
        (
            "revision 0123",
            ["run-9 formatted the disks from another state of the flake (revision 0123): the same layout"],
        ),
    ],
)
def test_disks_formatted_from_another_lock_are_kept_if_their_layout_is_the_same(
    installer: FakeMachine, made: Built, log: Remembered, lock: str, said: list[str]
) -> None:
    mark = PartitionMark(run_id="run-9", plan_digest=PLAN.layout_digest, lock=lock)
    installer.is_in("installer", partition_mark=mark.model_dump_json())
    assert not body(partition)(HOST, PLAN, made).formatted
    assert "disks formatted" not in installer.story
    assert [line.removeprefix("run ") for line in log.said if "state of the flake" in line] == said


def test_partition_has_the_keys_in_ram_only_while_it_formats(installer: FakeMachine, made: Built) -> None:
    keyed = host(encryption_keys=[{"path": "/run/keys/a", "command": ["echo", "x"]}])
    body(partition)(keyed, PLAN, made)
    first = installer.story.index("/run/keys/a put")
    # A key that cannot be written leaves the dead-man armed.
    during = ["/run/keys/a put", "dead-man stopped", "disks formatted", "/run/keys/a forgotten"]
    assert installer.story[first : first + 4] == during
    assert "forget-keys.service" not in installer.units
    installer.files.clear()
    installer.is_in("installer")
    installer.story.clear()
    installer.on("disko", lambda _: Done(stderr="disko: no key", status=1))
    with pytest.raises(CommandFailed, match="no key"):
        body(partition)(keyed, PLAN, made)
    assert installer.story[-3:] == ["/run/keys/a put", "dead-man stopped", "/run/keys/a forgotten"]


def test_keys_go_by_themselves_if_the_link_is_down_for_good(
    installer: FakeMachine, made: Built, log: Remembered
) -> None:
    keyed = host(encryption_keys=[{"path": "/run/keys/a", "command": ["echo", "x"]}], deadlines={"partition_s": 600})
    installer.after("disko", lambda: installer.ways.clear())
    with pytest.raises(HoldfastError):
        body(partition)(keyed, PLAN, made)
    (start,) = (args for args in installer.told("unit-start.sh") if args[0] == "forget-keys")
    # Before the key came: "660" is the time for the formatting, and a minute.
    assert start[-3:] == ["660", f"holdfast-partition-{PLAN.run_id[:8]}.service", "/run/keys/a"]
    names = [command.name for command in installer.commands]
    assert names.index("unit-start.sh") < names.index("put-file.sh")
    assert "/run/keys/a forgotten" not in installer.story
    assert any("It removes them itself, when the formatting there has ended, and within 660 s" in w for w in log.warned)
    installer.clock.sleep(KEYS_AT_MOST_S)
    assert installer.story[-1] == "/run/keys/a removed by the machine itself"
    assert "/run/keys/a" not in installer.files


@pytest.mark.parametrize("other", [PLAN.formatting, "disko for another plan"])
def test_keys_outlive_the_formatting_of_another_run_unless_it_is_this_runs_work(
    installer: FakeMachine, made: Built, other: str
) -> None:
    """A run that is killed leaves its formatting behind. This run waits for its end, and formats then."""
    keyed = host(encryption_keys=[{"path": "/run/keys/a", "command": ["echo", "x"]}])
    installer.start_unit("holdfast-partition-other.service", other, ["disko"])
    body(partition)(keyed, PLAN, made)
    (start,) = (args for args in installer.told("unit-start.sh") if args[0] == "forget-keys")
    assert fnmatch("holdfast-partition-other.service", start[-2]) is (other == PLAN.formatting)
    assert fnmatch(f"holdfast-partition-{PLAN.run_id[:8]}.service", start[-2])


def test_no_key_is_put_where_nothing_would_remove_it(installer: FakeMachine, made: Built) -> None:
    keyed = host(encryption_keys=[{"path": "/run/keys/a", "command": ["echo", "x"]}])
    installer.on("unit-start.sh", lambda _: Done(stderr="Failed to start transient service unit", status=1))
    with pytest.raises(CommandFailed):
        body(partition)(keyed, PLAN, made)
    assert "/run/keys/a put" not in installer.story
    assert "dead-man stopped" not in installer.story


TWO = "vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA"


@pytest.fixture
def with_two(installer: FakeMachine) -> FakeMachine:
    """A machine with a disk that the plan keeps."""
    installer.shows("installer", disks=TWO)
    return installer


def digests_are(machine: FakeMachine, *said: str) -> None:
    answers = list(said)

    def tell(command: Command) -> str:
        machine.tell(f"digests of {' '.join(command.args)}")
        return f"{answers.pop(0)}\n"

    machine.on("disk-digests.sh", tell)


def test_partition_proves_the_kept_disk_untouched(with_two: FakeMachine, made: Built) -> None:
    with_two.on("disko", lambda _: with_two.tell("disks formatted"))  # and not mounted
    body(partition)(HOST, PLAN, made)
    first = with_two.story.index("digests of /dev/vdb")
    during = ["digests of /dev/vdb", "dead-man stopped", "disks formatted", "digests of /dev/vdb"]
    assert with_two.story[first : first + 6] == [*during, "copied to /: disko-mount", "disks mounted"]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (f"/dev/vdb {'a' * 64} {'c' * 64}", "/dev/vdb changed"),
        ("/dev/vdb unreadable", "/dev/vdb can no longer be read"),
        ("/dev/vdb gone", "/dev/vdb can no longer be read"),
    ],
)
def test_partition_names_a_kept_disk_that_changed(with_two: FakeMachine, made: Built, after: str, said: str) -> None:
    digests_are(with_two, f"/dev/vdb {'a' * 64} {'b' * 64}", after)
    with pytest.raises(UnexpectedState, match=said):
        body(partition)(HOST, PLAN, made)
    # Nothing is formatted again all the same, and the new disk boots the installer.
    assert {MARK_ON_DISK, MARK_IN_RAM} <= with_two.files.keys()
    assert with_two.story[-2:] == ["standby armed", GUARDED]


def test_partition_goes_on_beside_a_disk_that_cannot_be_read(
    with_two: FakeMachine, made: Built, log: Remembered
) -> None:
    digests_are(with_two, "/dev/vdb unreadable", f"/dev/vdb {'a' * 64} {'b' * 64}")
    body(partition)(HOST, PLAN, made)
    assert len(log.warned) == 1
    assert "/dev/vdb cannot be read" in log.warned[0]


def test_partition_formats_nothing_if_the_digests_are_not_told(with_two: FakeMachine, made: Built) -> None:
    for said in ("", "/dev/vdc gone", "/dev/vdb x y"):
        digests_are(with_two, said)
        with pytest.raises(UnexpectedState, match="gave no valid digest for /dev/vdb"):
            body(partition)(HOST, PLAN, made)
    assert not {"disks formatted", "dead-man stopped"} & set(with_two.story)


def test_partition_that_only_joins_takes_no_digests(with_two: FakeMachine, made: Built) -> None:
    begins_formatting(with_two, made)
    body(partition)(HOST, PLAN, made)
    assert "digests of /dev/vdb" not in with_two.story
    assert "disks formatted" in with_two.story


def test_install_that_has_begun_is_only_followed(formatted: FakeMachine, made: Built) -> None:
    assert not body(install)(HOST, PLAN, made, Preserved()).boot_loader
    # The standby stays: the boot loader comes when the system has proved that it comes up.
    assert formatted.story == ["locked", "copied to /mnt: system", CARRIED, "nixos-install, no boot loader"]
    work = f"holdfast install {PLAN.layout_digest} {made.toplevel}, no boot loader"
    assert formatted.units[f"holdfast-install-{UNIT}"].work == work
    [started] = formatted.told("unit-start.sh")
    assert started[-2:] == [made.toplevel, "--no-bootloader"]
    formatted.story.clear()
    assert not body(install)(HOST, PLAN, made, Preserved()).boot_loader
    assert formatted.story == []
    assert len(formatted.told("unit-start.sh")) == 1


def test_install_without_a_trial_puts_the_boot_loader_last(
    formatted: FakeMachine, made: Built, log: Remembered
) -> None:
    def standby(command: Command) -> str:
        formatted.tell(f"standby {command.args[0]}")
        return "removed: all of it\n" if command.args[0] == "remove" else "none: the root is encrypted\n"

    formatted.on("standby.sh", standby)
    assert body(install)(HOST, PLAN, made, Preserved()).boot_loader
    # A disk that boots holds a machine that is itself.
    assert formatted.story[-3:] == [CARRIED, "nixos-install", "standby remove"]
    assert log.warned == [f"{made.toplevel} has its boot loader, and no trial comes before it: the root is encrypted"]
    work = f"holdfast install {PLAN.layout_digest} {made.toplevel}"
    assert formatted.units[f"holdfast-install-{UNIT}"].work == work
    assert formatted.told("unit-start.sh")[0][-1] == made.toplevel
    formatted.units.clear()
    body(install)(host(standby=False), PLAN, made, Preserved())
    # One that an earlier run armed would keep the node's state on the boot partition.
    assert formatted.story[-2:] == ["nixos-install", "standby remove"]


def test_lock_of_another_run_stops_a_phase_before_it_changes_anything(
    formatted: FakeMachine, made: Built, server: Server
) -> None:
    server.over[OTHER] = False
    formatted.locked_by = OTHER
    for phase, more in ((partition, ()), (install, (Preserved(),))):
        with pytest.raises(TargetRefused, match=f"another run works on cottage: run {OTHER}"):
            body(phase)(HOST, PLAN, made, *more)
    formatted.is_in("origin")
    formatted.locked_by = OTHER
    with pytest.raises(TargetRefused):
        body(kexec)(HOST, PLAN, made)
    assert [command.name for command in formatted.commands] == ["facts.sh", "lock.sh"] * 3


def start_installer(made: Built) -> Started:
    started = body(kexec)(HOST, PLAN, made)
    assert isinstance(started, Started)
    return started


def which_starts(machine: FakeMachine) -> list[str]:
    """What each start was told: whether it is the first, or comes after a link that broke."""
    return [args[0] for args in machine.told("start-alone.sh")]


def starts_end(machine: FakeMachine, *ends: Callable[[], Done | None]) -> None:
    answers = list(ends)
    machine.on("start-alone.sh", lambda _: answers.pop(0)())


def test_kexec_starts_nothing_on_another_boot_than_it_looked_at(machine: FakeMachine, made: Built) -> None:
    assert start_installer(made).kexec_at > machine.clock.now() - 60
    assert machine.story == ["locked", f"{made.image_sha256[:16]}.tar uploaded", "installer started by kexec"]
    machine.is_in("origin")
    machine.files.clear()
    machine.story.clear()
    machine.after("upload-finish.sh", soon(machine))
    with pytest.raises(Restarted):
        start_installer(made)
    assert machine.story[1:] == [f"{made.image_sha256[:16]}.tar uploaded", "origin boots"]


def test_kexec_goes_on_when_its_first_look_broke_off(machine: FakeMachine, made: Built) -> None:
    machine.before("facts.sh", machine.cut)
    assert start_installer(made).kexec_at


def test_kexec_waits_for_a_start_that_another_link_left_behind(machine: FakeMachine, made: Built) -> None:
    # It is not unpacked a second time under a kexec/run that goes on; that one fails in the end, and this starts it.
    starts_end(machine, machine.cut, lambda: Done(status=BUSY), lambda: Done(status=BUSY), Done)
    assert start_installer(made).kexec_at
    assert which_starts(machine) == ["first", "again", "again", "again"]


def test_kexec_of_which_nothing_was_heard_has_left(machine: FakeMachine, made: Built) -> None:
    machine.after("start-alone.sh", lambda: machine.leave_for("installer"))
    assert start_installer(made).kexec_at
    assert which_starts(machine) == ["first"]


def test_kexec_whose_answer_was_lost_is_waited_for(machine: FakeMachine, made: Built) -> None:
    machine.after("start-alone.sh", machine.cut)
    assert start_installer(made).kexec_at
    assert which_starts(machine)[:2] == ["first", "again"]
    assert machine.story[-2:] == ["installer started by kexec", "installer boots"]


def test_start_of_another_worker_is_not_this_ones(machine: FakeMachine, made: Built) -> None:
    def at_work(_: Command) -> Done:
        machine.clock.at(0.05, lambda: machine.leave_for("installer"))
        return Done(status=BUSY)

    machine.on("start-alone.sh", at_work)
    assert start_installer(made).kexec_at == 0
    assert which_starts(machine) == ["first"]


def test_kexec_that_ended_in_the_origin_again_is_not_repeated(machine: FakeMachine, made: Built) -> None:
    # The installer panicked, or the power failed: somebody has to look.
    machine.after("start-alone.sh", machine.reset)
    with pytest.raises(Restarted):
        start_installer(made)
    assert which_starts(machine) == ["first"]


def test_kexec_that_fails_says_what_it_wrote(machine: FakeMachine, made: Built) -> None:
    machine.on("run", lambda _: Done("what it wrote", status=1))
    with pytest.raises(CommandFailed, match=r"^`/var/lib/holdfast/\w+/kexec/run --run-id .* status 1: what it wrote$"):
        start_installer(made)
    assert which_starts(machine) == ["first"]


def test_kexec_has_the_secrets_on_standard_input_only(machine: FakeMachine, made: Built, tmp_path: Path) -> None:
    (tmp_path / "portal").write_text("poison-of-the-user")
    told = host(installer_secrets=[{"name": "portal", "from": tmp_path / "portal"}])
    planned = plan(facts("debian-12"), told, run_id=RUN)
    machine.on("run", lambda _: None)
    done = body(kexec)(told, planned, made)
    assert [command.name for command in machine.commands if b"poison" in command.stdin] == ["start-alone.sh", "run"]
    assert machine.commands[-1].args[4:6] == ["--secrets", str(len(machine.commands[-1].stdin))]
    assert not any("poison" in word for command in machine.commands for word in command.args)
    assert "poison" not in done.model_dump_json() + planned.model_dump_json()
    (tmp_path / "portal").unlink()
    with pytest.raises(ConfigError, match="portal"):
        body(kexec)(told, planned, made)
    assert which_starts(machine) == ["first"]


@pytest.mark.parametrize("moment", ["same_disks", "copy_closure", "disarm"])
def test_partition_formats_nothing_on_another_boot(
    installer: FakeMachine, desk: Desk, made: Built, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    # Met in the lab: the power failed during an upload, the origin answered, and was told to run disko.
    if moment == "same_disks":
        monkeypatch.setattr(partition_file, "same_disks", lambda *_given: long_ago(installer)())
    elif moment == "copy_closure":
        desk.while_copying = long_ago(installer)
    else:
        installer.after("dead-man-disarm.sh", soon(installer))
    with pytest.raises(Restarted):
        body(partition)(HOST, PLAN, made)
    assert installer.told("unit-start.sh") == []
    assert "origin boots" in installer.story


@pytest.mark.parametrize("moment", ["mount_again", "copy_closure", "carry_over"])
def test_install_does_nothing_on_another_boot(formatted: FakeMachine, desk: Desk, made: Built, moment: str) -> None:
    error: type[Exception] = Restarted
    if moment == "mount_again":
        # Prefect runs the phase again, and that sees another system.
        formatted.mounted, error = False, ConnectionLost
        formatted.after("disko-mount", long_ago(formatted))
    elif moment == "copy_closure":
        desk.while_copying = long_ago(formatted)
    else:
        formatted.after("carry-over.sh", soon(formatted))
    with pytest.raises(error):
        body(install)(HOST, PLAN, made, Preserved())
    assert formatted.told("unit-start.sh") == []
