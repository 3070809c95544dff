"""A machine whose name leads nowhere, or to another machine, from some moment on: it is reached by its own address."""

from pathlib import Path

import pytest

from holdfast.base.errors import HoldfastError, LoginRefused, NeverCame, NotTrusted, Unreachable
from holdfast.facts.identity import Identity
from holdfast.plan.results import Rebooted, Verified
from holdfast.ssh.reach import connect
from tasks import verify as verify_file
from tests.log import Remembered
from tests.unit.cases import KEXEC_RUN, built, facts, host, plan, status
from tests.unit.server import body
from tests.unit.target import RUN, TOPLEVEL, FakeMachine
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write
from tests.unit.test_whole_runs import run_flow

pytestmark = pytest.mark.usefixtures("desk", "server")
OWN = "100.64.0.1"
FULL = "cottage.tailnet.internal"
STRANGER = NotTrusted("cottage answered with the host key ssh-ed25519 SHA256:x, expected another.", hint="Find out.")
REFUSED = LoginRefused("cottage refused the login.", hint="Give a key.")
GONE = Unreachable("cottage: the name cannot be resolved.", hint="Correct it.")
ORIGIN = facts("debian-12")


def node(**changed: object) -> Identity:
    values = {"node_key": "nodekey:" + "ab" * 32, "node_id": "1", "addresses": (OWN,), "dns_name": FULL}
    return Identity.model_validate(values | changed)


@pytest.mark.parametrize(
    ("target", "then"),
    [
        ("cottage", GONE),
        ("cottage", STRANGER),
        (FULL, GONE),
        (FULL, STRANGER),
        (f"{FULL.upper()}.", GONE),
        ("box.lan", GONE),
        ("box.lan", STRANGER),
        ("192.168.1.9", GONE),
        ("192.168.1.9", STRANGER),
        (OWN, None),
    ],
)
@pytest.mark.parametrize("moment", ["read-state.sh", "start-alone.sh", "leave-installer.sh"])
def test_install_arrives_although_the_name_is_lost(
    machine: FakeMachine,
    log: Remembered,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    then: HoldfastError | None,
    moment: str,
) -> None:
    image = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    inventory = f'[cottage]\ntarget = "{target}"\nkexec = "{image}"\ndisks = [{{ serial = "COTTAGE0001" }}]\n'
    (tmp_path / "hosts.toml").write_text(inventory)
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "hosts.toml"))
    machine.archive = tar_of(STATE)
    for system in ("origin", "installer", "trial", "final"):
        case = {"origin": "debian-12", "installer": "installer"}.get(system, "nixos")
        machine.shows(system, tailscale_status=status(case, PublicKey=NODE.node_key, ID=NODE.node_id))
    machine.ways = {target: None, OWN: None}
    machine.after(moment, lambda: machine.ways.update({target: then}))
    run_flow("install", monkeypatch)
    assert machine.story[-3:] == ["final boots", "order new system, disk, network", "standby removed"]
    assert machine.disk == "final"
    assert log.warned == []


@pytest.mark.parametrize(
    "who",
    [
        node(addresses=()),
        # Only tailnet addresses are believed: the machine itself says which are its own.
        node(addresses=("203.0.113.9",)),
        None,
    ],
)
def test_without_an_address_on_the_tailnet_there_is_one_way(machine: FakeMachine, who: Identity | None) -> None:
    machine.ways = {}
    with pytest.raises(Unreachable) as info:
        connect(host(), node=who)
    assert machine.asked == ["cottage"]
    assert "tailnet address" not in info.value.message


class TestOrder:
    """At which address a node is asked for first, and which answer counts."""

    @pytest.mark.parametrize(
        ("target", "asked"),
        [
            ("cottage", [OWN]),
            (FULL, [OWN]),
            (OWN, [OWN]),
            ("fd7a:115c:a1e0::1", ["fd7a:115c:a1e0::1"]),
            ("box.lan", ["box.lan"]),
            ("192.168.1.9", ["192.168.1.9"]),
            ("cottage2", ["cottage2"]),
            ("cottage.lan", ["cottage.lan"]),
        ],
    )
    def test_name_that_follows_the_machine_comes_second(
        self, machine: FakeMachine, target: str, asked: list[str]
    ) -> None:
        machine.ways = dict.fromkeys((OWN, target))
        with connect(host(target=target), node=node(addresses=(OWN, "fd7a:115c:a1e0::1"))):
            assert machine.asked == asked

    def test_node_with_only_an_ipv6_address(self, machine: FakeMachine) -> None:
        machine.ways = {"fd7a:115c:a1e0::1": None}
        with connect(host(target="box.lan"), node=node(addresses=("fd7a:115c:a1e0::1",))) as target:
            assert target.endpoint.address == "fd7a:115c:a1e0::1"

    def test_what_answered_last_comes_first(self, machine: FakeMachine) -> None:
        machine.ways = {"cottage": None}
        for _ in range(3):
            connect(host(), node=node())
        assert machine.asked == [OWN, "cottage", "cottage", "cottage"]

    def test_login_and_port_stay(self, machine: FakeMachine) -> None:
        machine.ways = {}
        of = host(target="box.lan", user="ann", port=2222, elevation="sudo", proxy="tailscale-nc")
        with pytest.raises(Unreachable):
            connect(of, node=node())
        seen = [(at.address, at.user, at.port, at.elevation.method) for at in machine.endpoints]
        assert seen == [(at, *how) for at in ("box.lan", OWN) for how in (("ann", 2222, "sudo"), ("root", 22, "none"))]
        assert all(at.proxy for at in machine.endpoints)

    @pytest.mark.parametrize("target", ["cottage", "box.lan"])
    @pytest.mark.parametrize(
        ("at_target", "at_own", "magic", "other"),
        [
            (GONE, GONE, Unreachable, Unreachable),
            # Another machine has the name by now, and the node itself is still on its way.
            (STRANGER, GONE, Unreachable, Unreachable),
            (STRANGER, STRANGER, NotTrusted, NotTrusted),
            (STRANGER, REFUSED, LoginRefused, LoginRefused),
            (REFUSED, GONE, LoginRefused, LoginRefused),
            (REFUSED, STRANGER, LoginRefused, LoginRefused),
            # A name that MagicDNS gave is worth no more than the node's address. Of another target, only the target is
            # known to let us in.
            (GONE, STRANGER, NotTrusted, Unreachable),
            (GONE, REFUSED, LoginRefused, Unreachable),
        ],
    )
    def test_which_failure_counts(
        self,
        machine: FakeMachine,
        target: str,
        at_target: HoldfastError,
        at_own: HoldfastError,
        magic: type[HoldfastError],
        other: type[HoldfastError],
    ) -> None:
        machine.ways = {target: at_target, OWN: at_own}
        with pytest.raises(HoldfastError) as info:
            connect(host(target=target), node=node())
        assert type(info.value) is (magic if target == "cottage" else other)
        if isinstance(info.value, Unreachable):
            assert info.value.message == f"{at_target.message} And at its tailnet address: {at_own.message}"
            assert info.value.hint

    def test_local_address_is_the_last(self, machine: FakeMachine) -> None:
        machine.ways = {"192.168.1.100": None}
        connect(host(local="192.168.1.100", go_on_over_local=True), node=node())
        assert machine.asked == [OWN, "cottage", "192.168.1.100"]


class TestVerify:
    def verify(self, target: str = "cottage") -> Verified:
        of = host(target=target)
        rebooted = Rebooted(rebooted_at=1.0, boot_id="installer's")
        done = body(verify_file.verify)(of, plan(ORIGIN, of, run_id=RUN), built(toplevel=TOPLEVEL), rebooted)
        assert isinstance(done, Verified)
        return done

    def test_deadline_names_both_addresses(self, machine: FakeMachine) -> None:
        machine.is_in("final")
        machine.ways = {"cottage": STRANGER}
        with pytest.raises(
            NeverCame, match=r"last seen: cottage answered with the host key .* And at its tailnet"
        ) as info:
            self.verify()
        assert f"no connection to {OWN}:22" in info.value.message

    @pytest.mark.parametrize(
        ("target", "says"),
        [("cottage", True), (FULL, True), (OWN, False), ("box.lan", False)],
    )
    def test_new_name_is_told(self, machine: FakeMachine, log: Remembered, target: str, says: bool) -> None:
        machine.is_in("final", tailscale_status=status("nixos", DNSName="barn.tailnet.internal."))
        machine.ways = {OWN: None}
        assert self.verify(target).identity is not None
        assert [line for line in log.warned if "barn.tailnet.internal" in line and FULL in line] == log.warned
        assert len(log.warned) == 1
        assert ("target" in log.warned[0]) is says

    def test_name_that_stays_is_no_news(self, machine: FakeMachine, log: Remembered) -> None:
        machine.is_in("final")
        self.verify()
        assert log.warned == []
