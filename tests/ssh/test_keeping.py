"""Connections that are kept for their next use, with a real sshd."""

import threading
from collections.abc import Callable

import pytest

from holdfast.base.errors import Restarted
from holdfast.ssh import keeping
from holdfast.ssh.connection import Connection
from holdfast.target.machine import BOOT_ID, Machine
from tests.ssh.sshd import Sshd
from tests.ssh.test_returning import BOOT, logins

T = 20


def hello(target: Connection) -> str:
    return target.run(["echo", "hello"], timeout_s=T).stdout


def use(machine: Machine, times: int = 1) -> None:
    for _ in range(times):
        with machine.connect_over_last_way() as target:
            assert hello(target) == "hello\n"


def test_one_connection_serves_all_uses(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        use(machine, 3)
        with machine.connect() as target:
            assert hello(target) == "hello\n"
        assert logins(sshd) == 1
    use(machine)
    assert logins(sshd) == 2


def test_it_ends_with_whoever_keeps_it(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping(), machine.connect() as target:
        pass
    assert not target.answers()


def test_one_that_broke_is_opened_anew(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        use(machine)
        sshd.cut()
        use(machine)
    assert logins(sshd) == 2


def test_one_that_is_in_use_is_used_by_nobody_else(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        with machine.connect() as first:
            thread = threading.Thread(target=use, args=(machine,))
            thread.start()
            thread.join()
            assert hello(first) == "hello\n"
        assert logins(sshd) == 2
        assert not first.answers()  # the other one is idle already
        use(machine)
    assert logins(sshd) == 2


def test_after_an_error_it_is_not_kept(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        with pytest.raises(ZeroDivisionError), machine.connect():
            raise ZeroDivisionError
        use(machine)
    assert logins(sshd) == 2


def test_it_is_let_go_before_the_machine_goes_down(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        use(machine)
        machine.let_go()
        use(machine)
    assert logins(sshd) == 2


def test_boot_is_asked_once_for_each_connection(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    machine = machine_at(sshd.port)
    with keeping.keeping():
        use(machine.on_boot(BOOT))
        with machine.on_boot(BOOT).connect() as target:
            assert target.boot_id == BOOT
        with pytest.raises(Restarted, match="not another-boot"):
            machine.on_boot("another-boot").connect()
    said = [line for line in sshd.log.read_text().splitlines() if BOOT_ID in line]
    assert len(said) <= 2
