"""A whole install, a whole rehearsal and a wait in vain on the fake machine: what happens there, in milliseconds."""

import importlib
from pathlib import Path

import pytest
from prefect import Task

from deployments import plan as show
from holdfast.base.errors import ConfigError, DeadlinePassed, Restarted
from holdfast.base.settings import settings
from holdfast.inventory.loading import chosen_host
from holdfast.plan.markdown import to_markdown
from holdfast.plan.results import Started
from holdfast.plan.stage import Stage
from holdfast.ssh.keeping import keeping
from holdfast.target.machine import Machine
from holdfast.target.planning import plan_install
from tasks.build import build
from tasks.preflight import preflight
from tasks.reconnect import reconnect
from tests.log import Remembered
from tests.unit.cases import CONFIGURATION, KEXEC_RUN, built, facts, host, plan, status
from tests.unit.desk import Desk
from tests.unit.disko_layouts import recorded
from tests.unit.firmware import GUARDED
from tests.unit.programs import CASES
from tests.unit.server import Server, body
from tests.unit.target import RUN, FakeConnection, FakeMachine
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write

pytestmark = pytest.mark.usefixtures("desk")
# Of an install, with its standby and its trial. One more is that of `nix copy`.
MOST_CONNECTIONS = 11
MOST_COMMANDS = 87
INVENTORY = """
[cottage]
kexec = "{}"
disks = [{{ serial = "COTTAGE0001" }}]
"""


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has a state, and an inventory that names an image."""
    image = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    (tmp_path / "hosts.toml").write_text(INVENTORY.format(image))
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "hosts.toml"))
    machine.archive = tar_of(STATE)
    for system, case in CASES.items():
        machine.shows(system, tailscale_status=status(case, PublicKey=NODE.node_key, ID=NODE.node_id))


def run_flow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a flow's body, with each phase called without Prefect."""
    module = importlib.import_module(f"flows.{name}")
    for called, phase in list(vars(module).items()):
        if isinstance(phase, Task):
            monkeypatch.setattr(module, called, body(phase))
    getattr(module, name).fn.__wrapped__("cottage")


@pytest.mark.usefixtures("server")
def test_what_is_carried_goes_where_the_new_system_keeps_it(
    machine: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = {"type": "tmpfs", "device": "none", "options": [], "needed": True}
    persist = {"type": "ext4", "device": "/dev/sda3", "options": [], "needed": True}
    desk.configuration = CONFIGURATION | {
        "file_systems": CONFIGURATION["file_systems"] | {"/": root, "/persist": persist},
        "persisted": {"/var/lib/tailscale": "/persist/var/lib/tailscale"},
        "host_keys": [{"type": "ed25519", "path": "/persist/etc/ssh/ssh_host_ed25519_key"}],
    }
    run_flow("install", monkeypatch)
    elsewhere = "--host-key ed25519 /persist/etc/ssh/ssh_host_ed25519_key --state-folder /persist/var/lib/tailscale"
    carried = [told for told in machine.story if "carried over" in told]
    assert carried
    assert all(told.endswith(elsewhere) for told in carried)


@pytest.mark.usefixtures("server")
def test_install(machine: FakeMachine, desk: Desk, log: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    run_flow("install", monkeypatch)
    assert (desk.locked, desk.evaluated) == (1, 1)
    assert machine.story == [
        "state read",
        "locked",
        machine.story[2],
        "installer started by kexec",
        "installer boots",
        "dead-man fed",
        "locked",
        # All that the standby needs is there while the origin is whole, and the dead-man armed.
        "copied to /: disko",
        "/run/holdfast/standby/command-line written",
        "dead-man fed",
        "kernel was there",
        "dead-man fed",
        "initrd was there",
        "dead-man stopped",
        "disks formatted",
        "/mnt/var/lib/holdfast/partition.json written",
        "/run/holdfast/partition.json written",
        "standby armed",
        GUARDED,
        "copied to /mnt: nixos-system",
        "carried over: host-keys tailscale-state",
        "nixos-install, no boot loader",
        "carried over: host-keys tailscale-state",
        "new system loaded",
        "told to kexec",
        "trial boots",
        "watch stopped",
        "boot loader installed",
        "order standby, new system, disk, network, once new system",
        "locked",
        "told to reboot",
        "final boots",
        "order new system, disk, network",
        "standby removed",
    ]
    assert machine.story[2].endswith(".tar uploaded")
    assert (machine.disk, machine.standby, log.warned) == ("final", False, [])
    assert machine.clock.passed_s > 100
    # The image goes up once: the standby is made of what kexec has handed over.
    assert [args[0] for args in machine.told("upload-append.sh")] == [f"{machine.told('start-alone.sh')[0][1]}.tar"]
    assert "standby: 0 of" in "".join(log.said)


@pytest.mark.usefixtures("server")
def test_install_over_a_slow_link(machine: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.bytes_per_s, desk.path_bytes = 1000.0, 3_000_000
    run_flow("install", monkeypatch)
    armed = machine.story[machine.story.index("installer boots") : machine.story.index("dead-man stopped")]
    assert armed.index("copied to /: disko") > armed.count("dead-man fed") - 3 > 3000 / machine.dead_man_s
    assert "dead-man fires" not in machine.story
    assert (machine.runs, machine.disk) == ("final", "final")


@pytest.mark.usefixtures("server")
def test_copy_that_hangs_ends_in_the_origin(machine: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.path_bytes = 3_000_000
    machine.bytes_per_s = 1000.0
    desk.while_copying = lambda: setattr(machine, "stalls_after", machine.carried + 1_200_000)
    with pytest.raises(Restarted, match="was rebooted while this phase worked on it"):
        run_flow("install", monkeypatch)
    assert machine.story[-2:] == ["dead-man fires", "origin boots"]
    assert "disks formatted" not in machine.story
    # Of the time that the dead-man waits, as much as it was fed before the bytes stopped.
    assert machine.story.count("dead-man fed") >= 2


def test_rehearsal(machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run_flow("rehearse", monkeypatch)
    assert machine.story == [
        "state read",
        "locked",
        machine.story[2],
        "installer started by kexec",
        "installer boots",
        "dead-man fed",
        "locked",
        "told to reboot",
        "origin boots",
    ]
    assert (machine.disk, machine.up) == ("origin", True)
    assert list(server.labels.values()) == [NODE.node_id]


def change(desk: Desk) -> None:
    """Correct the flake: another revision, with another system for another disk."""
    desk.metadata["locked"]["rev"] = "cd" * 20
    desk.metadata["url"] = f"git+file:///flake?rev={'cd' * 20}"
    desk.built = built(toplevel="/nix/store/new-nixos-system")
    desk.disks = {"main": {"device": "/dev/vdz", "destroy": True}}


@pytest.mark.usefixtures("server")
def test_nothing_is_used_of_a_flake_that_changes_after_preflight(desk: Desk) -> None:
    chosen = chosen_host(settings().inventory, "cottage")
    plan = body(preflight)(chosen)
    change(desk)
    made = body(build)(chosen, plan)
    assert made.toplevel == plan.system.toplevel.out != desk.built.toplevel
    # So does a Retry on a worker that has the run's folder, but not the phases' results.
    assert body(preflight)(chosen) == plan
    assert body(build)(chosen, plan) == made
    assert (desk.locked, desk.evaluated) == (1, 1)


@pytest.mark.parametrize(
    ("changed", "name", "standby", "warnings"),
    [
        ({}, "simple-efi", "/boot (vfat, 500 MiB): ", 0),
        ({}, "esp-64m", "none: /boot is too small: ", 2),
        ({}, "luks-lvm", "none: /home is encrypted, and the boot partition is not", 2),
        ({"allow": ("state-on-boot",)}, "luks-lvm", "/boot (vfat, 500 MiB): the installer, with the node's state, ", 0),
        ({"standby": False}, "simple-efi", "none: the inventory says `standby = false`", 2),
        ({}, None, "unknown: the disko configuration could not be read", 2),
    ],
)
@pytest.mark.usefixtures("server")
def test_preflight_says_whether_there_will_be_a_standby(
    desk: Desk, log: Remembered, changed: dict[str, object], name: str | None, standby: str, warnings: int
) -> None:
    desk.layout = recorded(name)["mounts"] if name else None
    chosen = chosen_host(settings().inventory, "cottage").model_copy(update=changed)
    plan = body(preflight)(chosen)
    rows = {row.subject: row for row in plan.way_back}
    assert rows["standby"].seen.startswith(standby)
    assert "trial" in rows
    warned = [line for line in log.warned if line.startswith(("standby: ", "trial: "))]
    assert len(warned) == warnings
    # Nothing that is approved, and no mark on the disks, depends on it.
    assert plan.model_copy(update={"way_back": ()}).digest == plan.digest


@pytest.mark.usefixtures("server")
def test_a_machine_that_is_only_verified_needs_no_standby(machine: FakeMachine, desk: Desk) -> None:
    machine.is_in("final")
    desk.disks = {"main": {"device": "/dev/nvme0n1", "destroy": True}}
    desk.layout = recorded("esp-64m")["mounts"]
    plan = body(preflight)(chosen_host(settings().inventory, "cottage").model_copy(update={"disks": ()}))
    assert plan.stage is Stage.FINAL
    assert [row.subject for row in plan.way_back if row.subject in ("standby", "trial")] == []


def test_plan_of_a_run_is_what_the_verb_shows(server: Server, tmp_path: Path) -> None:
    chosen = chosen_host(settings().inventory, "cottage")
    ran = body(preflight)(chosen)
    shown = plan_install(
        Machine(chosen, Remembered()),
        run_id="",
        folder=tmp_path,
        rehearsal=False,
        reinstall=False,
        first_use=False,
        check_lock=lambda *_seen: None,
    )
    assert shown.model_copy(update={"run_id": RUN}) == ran
    assert to_markdown(shown) == server.artifacts["plan-cottage"]
    assert ran.digest[:12] in to_markdown(shown)


def test_configuration_is_refused_before_anything_is_built(
    machine: FakeMachine, desk: Desk, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.configuration = desk.configuration | {"sshd": False}
    chosen = chosen_host(settings().inventory, "cottage")
    with pytest.raises(ConfigError, match="starts no sshd") as error:
        body(preflight)(chosen)
    assert error.value.hint.endswith("if you correct the flake, start a fresh run.")
    assert show.main("cottage") == 2
    said = capsys.readouterr().err
    assert "starts no sshd" in said
    assert "fresh run" not in said
    assert (machine.story, server.artifacts) == ([], {})
    allowed = chosen.model_copy(update={"allow": ("no-sshd",)})
    assert any("starts no sshd" in warning for warning in body(preflight)(allowed).warnings)


@pytest.mark.usefixtures("machine", "server")
def test_a_flake_that_cannot_be_locked_may_be_corrected(desk: Desk) -> None:
    desk.metadata = {}
    chosen = chosen_host(settings().inventory, "cottage")
    with pytest.raises(ConfigError, match="unexpected answer") as error:
        body(preflight)(chosen)
    assert "fresh run" not in error.value.hint


@pytest.mark.usefixtures("server")
def test_ten_minutes_in_vain(machine: FakeMachine) -> None:
    machine.instead["installer"] = ""
    machine.leave_for("installer")
    chosen = host()
    started = Started(kexec_at=machine.clock.now(), origin_boot_id=facts("debian-12").boot_id)
    with pytest.raises(DeadlinePassed, match=r"of 600 s for cottage to return from kexec; last seen: .* no answer\."):
        body(reconnect)(chosen, plan(facts("debian-12"), chosen, run_id=RUN), built(), started)
    assert machine.clock.passed_s > 550


@pytest.mark.usefixtures("server")
def test_dead_man_brings_the_origin_back(machine: FakeMachine) -> None:
    machine.is_in("installer")
    machine.clock.sleep(899)
    assert machine.story == []
    machine.clock.sleep(60)
    assert machine.story == ["dead-man fires", "origin boots"]


@pytest.mark.usefixtures("server")
def test_an_install_keeps_its_connections(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    with keeping():
        run_flow("install", monkeypatch)
    assert len(machine.endpoints) <= MOST_CONNECTIONS
    assert len(machine.sent) <= MOST_COMMANDS


@pytest.mark.usefixtures("server")
def test_a_kept_connection_that_broke_is_opened_anew(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    # An outage that breaks the idle connection, between two phases, and is over before the next.
    monkeypatch.setattr(FakeConnection, "answers", lambda _connection: False)
    with keeping():
        run_flow("install", monkeypatch)
    assert len(machine.endpoints) > MOST_CONNECTIONS
    assert machine.runs == "final"
