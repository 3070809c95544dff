"""A state back from the vault: which archive, and everything that forbids it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.errors import ConfigError, NeverCame, NotTrusted, TargetRefused, UnexpectedState
from holdfast.base.settings import Settings
from holdfast.facts.identity import Identity, Status, parse_status
from holdfast.tailnet.vault import Label, Vault, VaultEntry
from holdfast.target.machine import Machine
from holdfast.target.restoring import BECOMES_S, PutBack, check_offline, choose, restore
from tests.log import Remembered
from tests.unit.cases import host
from tests.unit.desk import Desk
from tests.unit.programs import PROGRAMS, Command, Done
from tests.unit.target import FakeMachine
from tests.unit.test_archive import NODE, STATE, state, tar_of

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOST_KEY = "ssh-ed25519 AAAA"
OTHER = Identity(node_key="nodekey:" + "cd" * 32, node_id="n2", addresses=("100.64.0.2",))
ARCHIVE = tar_of(STATE)


def node(identity: Identity = NODE, **more: object) -> dict[str, Any]:
    known = {"PublicKey": identity.node_key, "ID": identity.node_id, "TailscaleIPs": list(identity.addresses)}
    return known | more


def says(state_: str = "Running", self_: Identity | None = None, **more: object) -> str:
    return json.dumps({"BackendState": state_, "Self": node(self_) if self_ else {}, **more})


def operator_says(*peers: dict[str, Any], state_: str = "Running", self_: Identity = OTHER) -> str:
    return says(state_, self_, Peer={str(number): peer for number, peer in enumerate(peers)})


def operator(*peers: dict[str, Any], state_: str = "Running", self_: Identity = OTHER) -> Status:
    return parse_status(operator_says(*peers, state_=state_, self_=self_))


def ago(**delta: int) -> str:
    return (NOW - timedelta(**delta)).isoformat()


# ---------------------------------------------------------------- which archive


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def keep(settings: Settings, archive: bytes = ARCHIVE, identity: Identity = NODE, host_name: str = "cottage") -> Path:
    return Vault(settings).store(host_name, archive, Label(identity=identity, host_key=HOST_KEY)).path


def test_newest_is_chosen_unless_one_is_named(settings: Settings) -> None:
    first, second = keep(settings), keep(settings, tar_of(STATE, ("x", b"")))
    assert choose(Vault(settings), "cottage").path == second
    assert choose(Vault(settings), "cottage", first.name).path == first


def test_newest_whose_label_can_be_read_is_chosen(settings: Settings) -> None:
    first, second = keep(settings), keep(settings)
    second.with_name(f"{second.name}.json").write_text("{}")
    assert choose(Vault(settings), "cottage").path == first
    with pytest.raises(ConfigError, match=f"archive {second.name} of cottage has no label"):
        choose(Vault(settings), "cottage", second.name)
    first.with_name(f"{first.name}.json").unlink()
    with pytest.raises(ConfigError, match="no archive of cottage has a label"):
        choose(Vault(settings), "cottage")


@pytest.mark.parametrize(
    "name", ["../barn/{other}", "{other}", "./{own}", "//{own}", "{own}.json", "..", "{folder}/{own}", "\x1b[2J", "*"]
)
def test_name_is_no_path(settings: Settings, name: str) -> None:
    own, other = keep(settings), keep(settings, host_name="barn")
    told = name.format(own=own.name, other=other.name, folder=own.parent)
    with pytest.raises(ConfigError, match=r"has no archive .* of cottage\. Hint: `just vault list cottage`") as error:
        choose(Vault(settings), "cottage", told)
    assert "\x1b" not in str(error.value)


def test_empty_vault(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no archive of cottage"):
        choose(Vault(settings), "cottage")


# ---------------------------------------------------------------- is the node online?


def test_node_that_is_gone_may_be_restored() -> None:
    seen = check_offline(operator(node(OTHER), node(Online=False, LastSeen=ago(minutes=4))), NODE, NOW)
    assert seen.identity.node_key == NODE.node_key


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (node(Online=True), "is online"),
        (node(Online=False, LastSeen=ago(seconds=20)), "was seen 20 s ago"),
        (node(Online=False, LastSeen=ago(minutes=-9)), "was seen 0 s ago"),
        (node(LastHandshake=ago(seconds=100), LastSeen=ago(hours=1)), "had a handshake 100 s ago"),
        (node(Online=True, PublicKey=OTHER.node_key), "is online"),
        (node(Online=True, ID="n9"), "is online"),
    ],
)
def test_node_that_is_online_is_refused(peer: dict[str, Any], said: str) -> None:
    with pytest.raises(TargetRefused, match=f"{said}.*Only one machine may be this node. Shut the other"):
        check_offline(operator(peer), NODE, NOW)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (None, "does not answer"),
        (operator(node(), state_="Stopped"), r"is not up \(Stopped\)"),
        (operator(), "does not know the node"),
        (operator(node(OTHER)), "does not know the node"),
    ],
)
def test_unknown_is_refused(status: Status | None, said: str) -> None:
    with pytest.raises(TargetRefused, match=f"{said}.*unknown whether .*, so nothing is restored"):
        check_offline(status, NODE, NOW)


def test_operator_that_is_the_node_is_refused() -> None:
    with pytest.raises(TargetRefused, match="this operator is"):
        check_offline(operator(self_=NODE), NODE, NOW)


def test_archive_from_before_the_key_was_renewed_is_refused() -> None:
    with pytest.raises(TargetRefused, match=r"another key now: nodekey:cdcd.*out of date"):
        check_offline(operator(node(PublicKey=OTHER.node_key)), NODE, NOW)


# ---------------------------------------------------------------- the machine


@pytest.fixture
def world(machine: FakeMachine, desk: Desk) -> FakeMachine:
    """A machine that becomes the node when the state was put there, and an operator that sees the node offline."""
    machine.shows("origin", tailscale_status=says("NeedsLogin"))

    def put_there(command: Command) -> Done | str | None:
        if command.args != ["show"]:
            machine.shows("origin", tailscale_status=says("Running", NODE))
        return PROGRAMS["restore-state.sh"](machine, command)

    machine.on("restore-state.sh", put_there)
    desk.status = operator_says(node())
    return machine


def put_back(settings: Settings, entry: VaultEntry, told: list[str] | None = None) -> PutBack:
    here = Machine(host(), Remembered(said=[] if told is None else told))
    return restore(here, here.connect(), entry, settings)


def put(machine: FakeMachine) -> list[bytes]:
    """What was sent to be put there."""
    assert not any("privkey" in word for command in machine.commands for word in command.args)
    put = [command for command in machine.commands if command.name == "restore-state.sh" and command.args != ["show"]]
    assert all(command.args[1:] == ["a" * 64, "none"] for command in put)
    return [command.stdin for command in put]


@pytest.fixture
def entry(settings: Settings) -> VaultEntry:
    keep(settings)
    return choose(Vault(settings), "cottage")


def test_machine_that_changes_while_it_is_looked_at_is_left_alone(
    world: FakeMachine, settings: Settings, entry: VaultEntry
) -> None:
    def answer(command: Command) -> Done | str:
        return (
            f"{'a' * 64} none\n"
            if command.args == ["show"]
            else Done(stderr="restore-state: a run has begun", status=3)
        )

    world.on("restore-state.sh", answer)
    with pytest.raises(TargetRefused, match="somebody logged in to Tailscale there, or a run began") as error:
        put_back(settings, entry)
    assert "try again" in error.value.hint


def test_the_look_comes_before_all_that_is_decided(world: FakeMachine, settings: Settings, entry: VaultEntry) -> None:
    put_back(settings, entry)
    names = [(command.name, *command.args[:1]) for command in world.commands]
    assert names[0] == ("restore-state.sh", "show")
    assert names.index(("lock.sh", "show")) > 0


@pytest.mark.parametrize("said", ["", "none", "a b\n", f"{'a' * 64} {'b' * 63}\n", "Welcome!\nnone none\n"])
def test_look_that_cannot_be_read(world: FakeMachine, settings: Settings, entry: VaultEntry, said: str) -> None:
    world.on("restore-state.sh", lambda _: said)
    with pytest.raises(UnexpectedState, match="no valid digests"):
        put_back(settings, entry)
    assert put(world) == []


def test_machine_becomes_the_node(world: FakeMachine, settings: Settings, entry: VaultEntry) -> None:
    lines: list[str] = []
    done = put_back(settings, entry, lines)
    assert put(world) == [ARCHIVE]
    assert done.identity == NODE
    assert not done.already
    assert done.kept.startswith("/var/lib/tailscale.before-restore-20")
    assert lines == []


def test_machine_that_is_the_node_is_left_alone(
    world: FakeMachine, desk: Desk, settings: Settings, entry: VaultEntry
) -> None:
    world.shows("origin", tailscale_status=says("Running", NODE))
    desk.status = ""  # nobody has to be asked
    assert put_back(settings, entry) == PutBack(NODE, already=True)
    assert put(world) == []


def test_node_that_is_online_elsewhere(world: FakeMachine, desk: Desk, settings: Settings, entry: VaultEntry) -> None:
    for desk.status in (operator_says(node(Online=True)), ""):
        with pytest.raises(TargetRefused):
            put_back(settings, entry)
    assert put(world) == []


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (says("Running", OTHER), "cottage is another node: nodekey:cdcd.*says Running.*tailscale logout"),
        (says("Stopped", OTHER), "another node: nodekey:cdcd.*says Stopped"),
        (says("Stopped", HaveNodeKey=True), "a node that is not up, and says Stopped"),
        (says("Starting"), "a node that is not up, and says Starting"),
        (says("Stopped", NODE), r"is nodekey:.* already, and says Stopped.*Run `tailscale up`"),
        (says("NeedsLogin", NODE), "Its key has expired"),
        ("no json", "does not answer"),
        ("", "does not answer"),
    ],
)
def test_machine_that_is_or_may_be_another_node(
    world: FakeMachine, settings: Settings, entry: VaultEntry, said: str, match: str
) -> None:
    world.shows("origin", tailscale_status=said)
    with pytest.raises(TargetRefused, match=match):
        put_back(settings, entry)
    assert put(world) == []


@pytest.mark.parametrize("said", [says("NeedsLogin"), says("NoState"), says("Stopped"), says("NeedsLogin", OTHER)])
def test_machine_that_is_no_node(world: FakeMachine, settings: Settings, entry: VaultEntry, said: str) -> None:
    world.shows("origin", tailscale_status=said)
    put_back(settings, entry)
    assert put(world) == [ARCHIVE]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"tailscale_installed": "", "tailscaled_pid": ""}, "no Tailscale on cottage"),
        ({"tailscaled_pid": ""}, "does not run on cottage, and it has a state.*move /var/lib/tailscale away"),
        ({"tailscaled_flags": "state=mem:", "tailscale_state_file": ""}, "keeps its state elsewhere.*memory"),
        ({"tailscale_state_file": "/opt/x"}, "keeps its state elsewhere: /opt/x"),
        ({"init": "init"}, "runs init, and only systemd.*by hand"),
    ],
)
def test_machine_that_cannot_take_it(
    world: FakeMachine, settings: Settings, entry: VaultEntry, changed: dict[str, str], match: str
) -> None:
    world.shows("origin", **changed)
    with pytest.raises(TargetRefused, match=match):
        put_back(settings, entry)
    assert put(world) == []


def test_tailscaled_that_never_ran_is_no_node(world: FakeMachine, settings: Settings, entry: VaultEntry) -> None:
    world.shows("origin", tailscaled_pid="", tailscale_state_kind="missing")
    put_back(settings, entry)
    assert put(world) == [ARCHIVE]


def test_machine_that_a_run_works_on(world: FakeMachine, settings: Settings, entry: VaultEntry) -> None:
    world.locked_by = "run-1"
    with pytest.raises(TargetRefused, match="another run"):
        put_back(settings, entry)
    assert put(world) == []


def test_label_alone_is_not_believed(world: FakeMachine, settings: Settings) -> None:
    keep(settings, identity=OTHER)
    with pytest.raises(NotTrusted, match="restores nodekey"):
        put_back(settings, choose(Vault(settings), "cottage"))
    keep(settings, b"no archive")
    with pytest.raises(NotTrusted, match=r"not a tar\.gz"):
        put_back(settings, choose(Vault(settings), "cottage"))
    assert put(world) == []


def test_what_a_person_should_know(world: FakeMachine, desk: Desk, settings: Settings) -> None:
    keep(settings, tar_of(("tailscaled.state", state(AttestationKey={"tpmPrivate": "eA=="}))))
    world.host_key = "ssh-ed25519 BBBB"
    desk.status = operator_says(node(Expired=True))
    lines: list[str] = []
    put_back(settings, choose(Vault(settings), "cottage"), lines)
    assert [line.split()[-1] for line in lines] == ["key", "cannot", "restore"]


def test_node_that_does_not_come_up(world: FakeMachine, settings: Settings, entry: VaultEntry) -> None:
    world.on("tailscale", lambda _: says("NeedsLogin", NODE) if put(world) else says("NeedsLogin"))
    with pytest.raises(
        NeverCame, match=r"cottage to be nodekey.*last seen: tailscaled says NeedsLogin.*before-restore"
    ):
        put_back(settings, entry)
    assert world.clock.passed_s > BECOMES_S - 5
