"""The proof that the origin comes back by itself: one reboot, what counts, and what a run says that waits in vain."""

import functools
import json

import pytest

from holdfast.base.brake import Stopped, obeying
from holdfast.base.errors import (
    CommandFailed,
    DeadlinePassed,
    HoldfastError,
    NotTrusted,
    TargetRefused,
    UnexpectedState,
)
from holdfast.base.places import ORIGIN_PROVED, ORIGIN_REBOOT
from holdfast.facts.boot import Proof
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import OriginProved
from holdfast.plan.way_back.row import Verdict, WayBackRow
from tasks import prove_origin as phase
from tests.log import Remembered
from tests.unit.cases import built, facts, host, plan, status
from tests.unit.programs import PROGRAMS, Command, Done
from tests.unit.server import Server, body
from tests.unit.target import HOST_KEY, RUN, FakeMachine

BUILT = built(toplevel="/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11")
BEFORE = facts("debian-12")
PLAN = plan(BEFORE, run_id=RUN)
OTHER = "0d2b3c4d-ffff-4bbb-8ccc-444455556666"
FIRST_BOOT = "00000001-0000-4000-8000-444455556666"
FINGERPRINT = "ab" * 32
DOUBT = WayBackRow(subject="kernel", seen="it was never booted", means="it may not start", verdict=Verdict.UNPROVED)

pytestmark = pytest.mark.usefixtures("desk", "server", "log")


@pytest.fixture
def origin(machine: FakeMachine) -> FakeMachine:
    """The machine in its origin, which says what decides its boot."""
    machine.way_back["fingerprint"] = f"{FINGERPRINT}\n"
    return machine


def prove(made: Plan = PLAN, inventory: Host | None = None) -> OriginProved:
    done = body(phase.prove_origin)(inventory or host(), made, BUILT)
    assert isinstance(done, OriginProved)
    return done


def proof(machine: FakeMachine) -> Proof:
    return Proof.model_validate_json(machine.text(ORIGIN_PROVED))


def reboots(machine: FakeMachine) -> int:
    return machine.story.count("told to reboot")


def test_origin_is_rebooted_once_and_its_return_is_kept_there(origin: FakeMachine, log: Remembered) -> None:
    origin.shows("origin", tailscale_status=status("debian-12", state="Starting"))
    origin.clock.at(90, lambda: origin.shows("origin", tailscale_status=status("debian-12")))
    result = prove()
    assert origin.story == [
        "locked",
        f"{ORIGIN_REBOOT} written",
        "told to reboot",
        "origin boots",
        f"{ORIGIN_PROVED} written",
    ]
    assert (result.boot_id, result.kernel, result.identity, result.host_key, result.path) == (
        origin.boot_id,
        BEFORE.kernel_release,
        BEFORE.identity,
        HOST_KEY,
        "relay",
    )
    assert result.away_s is not None
    assert 22 <= result.away_s < 100
    kept = proof(origin)
    assert (kept.run_id, kept.boot_id, kept.fingerprint) == (RUN, FIRST_BOOT, FINGERPRINT)
    assert kept.at == pytest.approx(origin.clock.now(), abs=5)
    assert ORIGIN_REBOOT not in origin.files
    assert log.warned == []


def test_what_decides_the_boot_is_read_after_the_boot(origin: FakeMachine) -> None:
    origin.after("reboot.sh", lambda: origin.way_back.update(fingerprint="cd" * 32))
    prove()
    assert proof(origin).fingerprint == "cd" * 32


def crash(*_given: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("broke_off_at", ["way-back.sh", "write-file.sh"])
@pytest.mark.parametrize("planned", ["before", "anew"])
def test_run_that_broke_off_after_the_reboot_does_not_reboot_again(
    origin: FakeMachine, broke_off_at: str, planned: str
) -> None:
    """Also on another worker, which has to make the plan anew, in the origin that has come back."""
    origin.after("reboot.sh", lambda: origin.before(broke_off_at, crash))
    with pytest.raises(KeyboardInterrupt):
        prove()
    assert ORIGIN_PROVED not in origin.files
    again = PLAN if planned == "before" else plan(facts("debian-12", boot_id=origin.boot_id), run_id=RUN)
    result = prove(again)
    assert (reboots(origin), result.boot_id, result.away_s) == (1, FIRST_BOOT, None)
    assert proof(origin).boot_id == FIRST_BOOT


@pytest.mark.parametrize("planned", ["before", "anew"])
def test_proof_of_this_run_is_enough_also_on_a_later_boot(origin: FakeMachine, planned: str) -> None:
    prove()
    origin.is_in("origin", boot_id="00000009-0000-4000-8000-444455556666")  # the dead-man took it back
    prove(PLAN if planned == "before" else plan(facts("debian-12", boot_id=origin.boot_id), run_id=RUN))
    assert reboots(origin) == 1
    assert proof(origin).boot_id == origin.boot_id


def test_note_and_proof_of_another_run_prove_nothing(origin: FakeMachine) -> None:
    kept = {"run_id": OTHER, "boot_id": BEFORE.boot_id, "at": 1.0, "fingerprint": FINGERPRINT}
    origin.files[ORIGIN_PROVED] = json.dumps(kept).encode()
    origin.files[ORIGIN_REBOOT] = json.dumps({"run_id": OTHER, "boot_id": FIRST_BOOT}).encode()
    prove()
    assert (reboots(origin), proof(origin).run_id) == (1, RUN)


@pytest.mark.parametrize("note", ["", "{", '{"run_id": "x"}', "[1]", '"' * 5000])
def test_broken_note_is_none(origin: FakeMachine, note: str) -> None:
    origin.files[ORIGIN_REBOOT] = note.encode()
    prove()
    assert reboots(origin) == 1


def test_reboot_whose_answer_was_lost_is_asked_again_only_of_the_same_boot(origin: FakeMachine) -> None:
    origin.before("reboot.sh", origin.cut)
    assert prove().away_s is not None
    assert reboots(origin) == 1
    origin.is_in("origin")
    origin.files.clear()
    origin.after("reboot.sh", origin.cut)
    prove()
    assert origin.story.count("origin boots") == 2


def test_origin_that_takes_its_time_to_go_down_is_asked_once(origin: FakeMachine) -> None:
    def reboot(_: Command) -> None:
        origin.tell("told to reboot")
        origin.timer("reboot", 90, origin.reset)

    origin.on("reboot.sh", reboot)
    assert prove().boot_id == FIRST_BOOT
    assert reboots(origin) == 1


def test_installer_that_runs_already_is_left_alone(origin: FakeMachine) -> None:
    origin.is_in("installer")
    assert "installer runs already" in prove().skipped
    assert origin.story == []


@pytest.mark.parametrize(
    ("runs", "shows", "said"),
    [
        ("installer", {"installer_mark": json.dumps({"image_id": "i", "run_id": OTHER, "state": "none"})}, OTHER),
        ("final", {}, "the installed system"),
        ("origin", {"partition_mark": "{"}, "a mark that cannot be read"),
    ],
)
def test_what_is_no_origin_is_not_rebooted(origin: FakeMachine, runs: str, shows: dict[str, str], said: str) -> None:
    origin.toplevel = BUILT.toplevel
    origin.is_in(runs, **shows)
    with pytest.raises(TargetRefused, match=f"a rehearsal starts from an origin.*{said}"):
        prove()
    assert origin.story == []


def test_machine_of_another_run_is_not_rebooted(origin: FakeMachine, server: Server) -> None:
    server.over[OTHER] = False
    origin.locked_by = OTHER
    with pytest.raises(TargetRefused, match=f"another run works on cottage: run {OTHER}"):
        prove()
    assert origin.story == []


def test_cancelled_run_does_not_reboot_it(origin: FakeMachine) -> None:
    asked: list[bool] = []
    origin.after("way-back.sh", lambda: asked.append(True))
    with pytest.raises(Stopped), obeying(lambda: bool(asked)):
        prove()
    assert origin.story == []


def test_what_strands_is_refused_also_when_it_came_after_the_plan(
    origin: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = WayBackRow(subject="tailscaled", seen="nothing starts it", means="it would be lost", verdict=Verdict.STRANDS)
    monkeypatch.setattr(phase, "judge_way_back", lambda _back, _host: (row,))
    with pytest.raises(TargetRefused, match="nothing starts it, so it would be lost"):
        prove()
    assert origin.story == []
    prove(inventory=host(allow=["origin-may-not-return"]))
    assert reboots(origin) == 1


# What is not home.


@pytest.mark.parametrize(
    ("comes", "shows", "error", "said"),
    [
        ("final", {}, UnexpectedState, "came back as the installed system"),
        ("installer", {}, UnexpectedState, "came back as the installer lab-1"),
        ("origin", {"os_release": 'ID=ubuntu\nPRETTY_NAME="Ubuntu 24.04"\n'}, UnexpectedState, "back in Ubuntu"),
        (
            "origin",
            {"tailscale_status": status("debian-12", PublicKey="nodekey:" + "cd" * 32)},
            NotTrusted,
            "another node now",
        ),
    ],
)
def test_what_is_no_return(
    origin: FakeMachine, comes: str, shows: dict[str, str], error: type[HoldfastError], said: str
) -> None:
    origin.toplevel = BUILT.toplevel
    origin.after("reboot.sh", lambda: origin.shows(comes, **shows))
    origin.disk = comes
    with pytest.raises(error, match=said):
        prove()
    assert ORIGIN_PROVED not in origin.files


def test_another_host_key_is_no_return(origin: FakeMachine) -> None:
    origin.after("reboot.sh", lambda: setattr(origin, "host_key", "ssh-ed25519 BBBB"))
    with pytest.raises(NotTrusted, match="SSH host key ssh-ed25519 BBBB"):
        prove()
    assert ORIGIN_PROVED not in origin.files


@pytest.mark.parametrize(
    ("files", "by_kexec"),
    [
        ({phase.LOADER: "208\n"}, True),
        ({phase.LOADER: "209\n"}, True),
        ({phase.LOADER: "114\n"}, False),
        ({phase.LOADER: "49\n"}, False),
        # aarch64 has no such number, but a device tree.
        ({phase.KEXEC_MARK: ""}, True),
        ({}, False),
    ],
)
def test_return_by_kexec_shows_nothing_of_its_boot_loader(
    origin: FakeMachine, files: dict[str, str], by_kexec: bool
) -> None:
    """GRUB is 0x72, syslinux 0x31: the numbers of the kernel's boot protocol."""
    cat = functools.partial(PROGRAMS["cat"], origin)
    origin.on("cat", lambda command: Done(files[command.args[0]]) if command.args[0] in files else cat(command))
    if not by_kexec:
        prove()
        return
    with pytest.raises(UnexpectedState, match="by kexec, without firmware and boot loader") as error:
        prove()
    assert "LOAD_KEXEC=false" in error.value.hint
    assert ORIGIN_PROVED not in origin.files


def test_newer_kernel_is_what_is_proved_and_is_said(origin: FakeMachine, log: Remembered) -> None:
    origin.after("reboot.sh", lambda: origin.shows("origin", kernel_release="6.1.0-99-amd64\n"))
    assert prove().kernel == "6.1.0-99-amd64"
    assert proof(origin).boot_id == FIRST_BOOT
    assert any("came back with the kernel 6.1.0-99-amd64, and ran 6.1.0-" in line for line in log.warned)


def test_proof_without_a_fingerprint_is_not_kept(origin: FakeMachine, log: Remembered) -> None:
    origin.way_back.clear()
    assert prove().boot_id == FIRST_BOOT
    assert ORIGIN_PROVED not in origin.files
    assert log.warned == ["what decides the boot of cottage is unknown, so no proof is kept there"]


# What does not come.


def test_origin_that_stays_away(origin: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    origin.instead["origin"] = ""
    monkeypatch.setattr(phase, "judge_way_back", lambda _back, _host: (DOUBT,))
    with pytest.raises(DeadlinePassed) as error:
        prove()
    said = error.value.message
    assert "for cottage to come back from a reboot of its origin; last seen:" in said
    assert "It was told to reboot at " in said
    assert "No installer was started, and nothing was changed on its disks, except for a note" in said
    assert "What was seen before: kernel: it was never booted: it may not start." in said
    assert "passphrase" in error.value.hint
    assert "does not reboot it again" in error.value.hint
    assert reboots(origin) == 1
    # Somebody has switched it on.
    origin.is_in("origin", boot_id=OTHER)
    assert prove().boot_id == OTHER
    assert reboots(origin) == 1


def test_origin_that_does_not_go_down(origin: FakeMachine) -> None:
    origin.on("reboot.sh", lambda _: None)
    with pytest.raises(DeadlinePassed, match="last seen: the system that was to reboot still answers"):
        prove()
    assert origin.boot_id == BEFORE.boot_id


def test_origin_that_cannot_reboot_itself(origin: FakeMachine) -> None:
    origin.on("reboot.sh", lambda _: Done(status=1, stderr="there is no program reboot\n"))
    with pytest.raises(CommandFailed, match="there is no program reboot"):
        prove()
