"""A login that does not become root: the new system may know the origin's login and ask it for a password."""

import pytest

from holdfast.base.errors import ConnectionLost, HoldfastError, LoginRefused, Unreachable
from holdfast.ssh.reach import connect
from tests.unit.cases import host
from tests.unit.programs import Command
from tests.unit.target import FakeMachine

ASKS = LoginRefused("sudo does not give root on cottage: a password is required.")
ADMIN = {"user": "admin", "elevation": "sudo"}


def logins(machine: FakeMachine) -> list[tuple[str, int]]:
    return [(endpoint.user, endpoint.port) for endpoint in machine.endpoints]


def says(machine: FakeMachine, error: HoldfastError, *, root: HoldfastError | None = None) -> None:
    """Let the login become root in vain; with `root`, root's own login fails as well."""

    def fail(_: Command) -> None:
        machine.ways = {"cottage": root}
        raise error

    machine.on("true", fail)


def test_login_that_becomes_root_is_taken(machine: FakeMachine) -> None:
    with connect(host(**ADMIN, port=2222)) as target:
        assert (target.endpoint.user, target.endpoint.port) == ("admin", 2222)
    assert logins(machine) == [("admin", 2222)]


@pytest.mark.parametrize("error", [ASKS, ConnectionLost("the link to cottage broke.")])
@pytest.mark.parametrize("inventory", [ADMIN, ADMIN | {"port": 2222}, ADMIN | {"elevation": "doas"}])
def test_root_itself_is_tried_then(machine: FakeMachine, inventory: dict[str, object], error: HoldfastError) -> None:
    says(machine, error)
    with connect(host(**inventory)) as target:
        assert (target.endpoint.user, target.endpoint.port, target.endpoint.elevation.method) == ("root", 22, "none")
    assert len(logins(machine)) == 2


@pytest.mark.parametrize("root", [LoginRefused("no key."), Unreachable("nothing listens.")])
def test_what_sudo_said_counts_if_root_is_kept_out(machine: FakeMachine, root: HoldfastError) -> None:
    says(machine, ASKS, root=root)
    with pytest.raises(LoginRefused, match="a password is required"):
        connect(host(**ADMIN))


@pytest.mark.parametrize("inventory", [{}, {"user": "admin"}])
def test_login_that_is_not_to_become_root_is_not_asked(machine: FakeMachine, inventory: dict[str, object]) -> None:
    says(machine, ASKS)
    with connect(host(**inventory)):
        pass
    assert len(logins(machine)) == 1
    assert machine.told("true") == []
