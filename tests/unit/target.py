"""One fake machine behind the SSH boundary: a small system with a disk, units, timers, and several systems to boot.

The fixture `machine` (conftest.py) puts it behind `holdfast.ssh.connection.open_connection`. What a phase sends is
served by a program of programs.py, which changes the machine as the real one does: an install can run on it from
preflight to verify. A test changes what it is about:

    machine.is_in("installer")                          it is in this system
    machine.shows("trial", tailscale_status="…")        other facts, whenever that system runs
    machine.on("disko", lambda _: Done(status=1))       another answer
    machine.after("leave-installer.sh", machine.cut)    the link breaks when that is done
    machine.before("disk-digests.sh", machine.reset)    the power fails before it

`machine.story` holds what happened, in order: what changed the machine, and what was read from its disks.
"""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple, cast

from holdfast.base.errors import ConnectionLost, DeadlinePassed, HoldfastError, Unreachable
from holdfast.base.places import DEAD_MAN_TIMER as TIMER
from holdfast.base.places import MARK_IN_RAM, MARK_ON_DISK
from holdfast.base.places import TRIAL_WATCH as WATCH
from holdfast.base.text import Tail
from holdfast.ssh.connection import Connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.execute import Ended
from holdfast.ssh.hostkeys import HostKey
from holdfast.ssh.keys import Offer
from holdfast.ssh.link import Link
from holdfast.ssh.login import LoggedIn
from holdfast.ssh.publickey import parse_line
from tests.unit.boot_code import BootCode
from tests.unit.cases import LOGIN_KEY, answer
from tests.unit.clock import FakeClock
from tests.unit.firmware import Firmware
from tests.unit.programs import CASES, INSTALLER_MARK, PROGRAMS, Command, Done, Unit, parse_command

# The run whose phases a test calls; a run's id is a UUID in Prefect.
RUN = "0d2b3c4d-aaaa-4bbb-8ccc-444455556666"
TOPLEVEL = f"/nix/store/{'a' * 32}-nixos-system"
HOST_KEY = "ssh-ed25519 AAAA"
# Where it answers: a name that is also its name on its tailnet, its address there, and another address.
NAMES = ("cottage", "100.64.0.1", "100.64.0.2")
BOOTS_S = 20.0
COMMAND_S = 0.1
UNIT_S = 5.0
KEYS_AT_MOST_S = 1860.0


class Sent(NamedTuple):
    """What went over the wire: the system that ran, the command as it is, its standard input, and how it ended."""

    system: str
    argv: tuple[str, ...]
    stdin: bytes
    status: int


Handler = Callable[[Command], Done | str | None]


def let_in_by(*keys: str) -> LoggedIn:
    """Return a login with keys, each `TYPE BASE64`."""
    return LoggedIn(tuple(_offer(key) for key in keys))


def let_in_without_a_key(*unused: str) -> LoggedIn:
    """Return a login as Tailscale SSH gives it, by an operator who has these keys."""
    return LoggedIn(unused=tuple(_offer(key) for key in unused))


def _offer(key: str) -> Offer:
    blob = parse_line(key)
    assert blob
    return Offer("key", blob, lambda *_: b"")


class FakeConnection(Connection):
    """A Connection whose commands the fake machine runs; it breaks when the machine goes down."""

    def __init__(self, machine: "FakeMachine", endpoint: Endpoint) -> None:
        self._machine, self._boot = machine, machine.boot_id
        self.endpoint, self.host_key, self.login_key = endpoint, machine.host_key, machine.logged_in.key
        kind, blob = machine.host_key.split()
        self._link = cast(
            "Link",
            SimpleNamespace(endpoint=endpoint, host_key=HostKey(kind, blob), logged_in=machine.logged_in, hop=None),
        )

    def close(self) -> None:
        pass

    def answers(self) -> bool:
        return self._machine.up and self._machine.boot_id == self._boot

    def _execute(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: Iterator[bytes],
        on_line: Callable[[str], None] | None,
        root: bool,
        max_output_bytes: int,
    ) -> Ended:
        assert timeout_s > 0
        assert root
        self._machine.clock.sleep(COMMAND_S)
        self._require_link()
        sent, ends = b"", self._machine.clock.monotonic() + timeout_s
        for piece in stdin:
            for _ in self._machine.carry(len(piece)):
                self._require_link()
                if self._machine.clock.monotonic() > ends:
                    raise DeadlinePassed(f"`{argv[0]}` on cottage did not end within {timeout_s:g} s.")
            sent += piece
        runs = self._machine.runs
        done = self._machine.run(parse_command(argv, sent))
        self._machine.sent.append(Sent(runs, tuple(argv), sent, done.status))
        self._require_link()
        stdout, stderr = Tail(max_output_bytes), Tail(max_output_bytes)
        stdout.feed(done.stdout if isinstance(done.stdout, bytes) else done.stdout.encode())
        stderr.feed(done.stderr.encode())
        if on_line:
            for line in (stdout.text() + stderr.text()).splitlines():
                on_line(line)
        return Ended(done.status, stdout, stderr, COMMAND_S)

    def _require_link(self) -> None:
        if not self._machine.up or self._machine.boot_id != self._boot:
            self._machine.cut()


@dataclass
class FakeMachine:
    """A machine.

    Attributes:
        clock: its clock.
        runs: the system that runs, a key of CASES; it answers while it is `up`.
        disk: the system that a boot from the disk starts; empty if there is none.
        instead: what comes up in place of a system that is started; empty for nothing.
        ways: the addresses where it answers, and how it refuses there; anywhere else nothing answers.
        toplevel: store path of the system that is installed.
        archive: its Tailscale state, as tar packs it.
        failed_units: the units that its final system says have failed.
        lacks: programs that it does not have.
        efi: its UEFI, which the recorded answers say it has; None if it starts by BIOS.
        boot_code: its disk's first sector, if it starts by BIOS; else None.
        way_back: what way-back.sh tells of it other than way_back_answer.
        dead_man_s: what its installer's dead-man waits; 0 if it has none, as the one that the standby starts.
        logged_in: how its SSH server lets one in.
        bytes_per_s: what its link carries.
        stalls_after: after so many bytes its link carries no more, and does not break.
        unit_s: how long a detached command takes, by the program's name; UNIT_S for others.

    """

    clock: FakeClock
    runs: str = "origin"
    up: bool = True
    disk: str = "origin"
    instead: dict[str, str] = field(default_factory=dict)
    ways: dict[str, HoldfastError | None] = field(default_factory=lambda: dict.fromkeys(NAMES))
    host_key: str = HOST_KEY
    toplevel: str = TOPLEVEL
    archive: bytes = b""
    failed_units: tuple[str, ...] = ()
    lacks: set[str] = field(default_factory=set)
    efi: Firmware | None = field(default_factory=Firmware)
    boot_code: BootCode | None = None
    way_back: dict[str, str] = field(default_factory=dict)
    dead_man_s: float = 900.0
    logged_in: LoggedIn = field(default_factory=lambda: let_in_by(LOGIN_KEY))
    bytes_per_s: float = math.inf
    stalls_after: float = math.inf
    unit_s: dict[str, float] = field(default_factory=lambda: {"forget-keys.sh": KEYS_AT_MOST_S})

    def __post_init__(self) -> None:
        self.story: list[str] = []
        self.commands: list[Command] = []
        self.sent: list[Sent] = []
        self.endpoints: list[Endpoint] = []
        self.files: dict[str, bytes] = {}
        self.units: dict[str, Unit] = {}
        self.store: set[str] = set()
        self.timers: dict[str, float] = {}
        self.changed: dict[str, dict[str, str]] = defaultdict(dict)
        self.mounted = self.standby = False
        self.carried = 0.0
        self.locked_by = ""
        self.locked_at = self.booted_at = self.clock.monotonic()
        self.handed: tuple[str, float] | None = None
        self.stock = False
        self.unpacked = b""
        self.kept: dict[str, bytes] = {}
        self.before_it = {"origin_mark": "no", "origin_nixos": "no", "origin_hostname": "cottage"}
        self.watch_s = 600.0
        self._boots = self._started = 0
        self._before: dict[str, list[Callable[[], object]]] = defaultdict(list)
        self._after: dict[str, list[Callable[[], object]]] = defaultdict(list)
        self._handlers: dict[str, Handler] = {
            name: functools.partial(program, self) for name, program in PROGRAMS.items()
        }
        self.boot_id = self.fact("boot_id")

    # What a test says.

    def is_in(self, system: str, *, boot_id: str = "", **changed: str) -> None:
        """Be in a system that booted a while ago, on the recorded boot or this one, and that shows other facts."""
        self._go_down()
        self.runs, self.up = system, True
        self.shows(system, **changed)
        self.boot_id = boot_id or self.fact("boot_id")
        self.disk = {"trial": "installer", "final": "final"}.get(system, "origin")
        self.standby = system == "trial"
        if system == "installer":
            self.handed = (RUN, self.dead_man_s)
            self._installer_starts()
        if system == "trial":
            self.timer(WATCH, self.watch_s, self.reset)

    def runs_another(self) -> None:
        """Let the installer that runs be one that somebody else started: no mark, and no dead-man."""
        self.files, self.timers, self.handed = {}, {}, None

    def shows(self, system: str, **changed: str) -> None:
        """Let a system show other facts than the recorded ones."""
        self.changed[system] |= changed

    def on(self, name: str, handler: Handler) -> None:
        """Let a command be served by another handler."""
        self._handlers[name] = handler

    def before(self, name: str, *actions: Callable[[], object]) -> None:
        """Let something happen before a command is served: the first action the next time, and so on."""
        self._before[name] += actions

    def after(self, name: str, *actions: Callable[[], object]) -> None:
        """Let something happen when a command was served, and before its answer is heard."""
        self._after[name] += actions

    def cut(self) -> None:
        raise ConnectionLost("the link to cottage broke.")

    def is_away(self, seconds: float) -> None:
        """Be out of reach for so long, with nothing lost."""
        self.up = False
        self.clock.at(seconds, lambda: setattr(self, "up", True))

    def reset(self) -> None:
        """Boot from the disk, as after a power cut."""
        starter = self.efi or self.boot_code
        assert starter
        self.leave_for(starter.starts(self.disk, standby=self.standby))

    def has_bios(self) -> None:
        """Be started by a BIOS."""
        self.efi, self.boot_code = None, BootCode()
        for system in CASES:
            self.shows(system, firmware="bios")

    def told(self, name: str) -> list[list[str]]:
        """Return the arguments of each command of that name."""
        return [command.args for command in self.commands if command.name == name]

    @property
    def asked(self) -> list[str]:
        """The addresses where it was asked for, answered or not."""
        return [endpoint.address for endpoint in self.endpoints]

    # The link.

    def open_connection(self, endpoint: Endpoint, *, timeout_s: float) -> Connection:
        self.clock.sleep(COMMAND_S)
        self.endpoints.append(endpoint)
        if not self.up or endpoint.address not in self.ways:
            self.clock.sleep(timeout_s)
            where = f"{endpoint.address}:{endpoint.port}"
            raise Unreachable(f"{endpoint.host}: no connection to {where} within {timeout_s:g} s: no answer.")
        if error := self.ways[endpoint.address]:
            raise error
        return FakeConnection(self, endpoint)

    def carry(self, size: int) -> Iterator[int]:
        """Let so many bytes go over the link. Yield each second how many are over; if it stalls, without an end."""
        over = 0.0
        while over < size:
            self.clock.sleep(1.0 if math.isfinite(self.bytes_per_s) else 0.0)
            step = min(self.bytes_per_s, size - over, self.stalls_after - self.carried)
            over, self.carried = over + step, self.carried + step
            yield int(over)

    def run(self, command: Command) -> Done:
        assert command.name in self._handlers, f"the fake machine has no command {command}"
        self.commands.append(command)
        if self._before[command.name]:
            boot_id = self.boot_id
            self._before[command.name].pop(0)()
            if not self.up or self.boot_id != boot_id:
                self.cut()
        done = self._handlers[command.name](command)
        if self._after[command.name]:
            self._after[command.name].pop(0)()
        return done if isinstance(done, Done) else Done(done or "")

    # What the programs do with it.

    def tell(self, what: str) -> None:
        self.story.append(what)

    def text(self, path: str) -> str:
        return self.files.get(path, b"").decode()

    def fact(self, name: str) -> str:
        """Return a fact that is recorded, or that the test changed."""
        return str(json.loads(answer(CASES[self.runs], **self.changed[self.runs]))[name]).strip()

    def hand_over(self, run_id: str, dead_man_s: float, *, stock: bool) -> None:
        """Hand over what kexec/run hands over; that of a stock image tells the installer nothing of us."""
        self.handed, self.stock = (run_id, dead_man_s), stock
        ours = self.runs in ("trial", "final")
        self.before_it = {
            "origin_boot_id": self.boot_id,
            "origin_mark": "yes" if self.fact("system_mark") else "no",
            "origin_nixos": "yes" if ours or self.fact("booted_system") else "no",
            "origin_hostname": self.fact("hostname"),
        }

    def leave_for(self, system: str) -> None:
        """Go down, with all that is in RAM; come up in another system after BOOTS_S, or never."""
        self._go_down()
        self._boots += 1
        this_boot = self._boots
        self.clock.at(BOOTS_S, lambda: self._come_up(self.instead.get(system, system), this_boot))

    def _go_down(self) -> None:
        self.up = self.mounted = False
        self.files = {path: data for path, data in self.files.items() if path.startswith(("/mnt/", "/var/"))}
        self.units, self.timers, self.locked_by = {}, {}, ""
        self.store = {built for built in self.store if built.startswith("/mnt/")}

    def timer(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        """Arm a timer of this boot, or arm it anew."""
        due = self.timers[name] = self.clock.monotonic() + seconds

        def fire() -> None:
            if self.timers.get(name) == due:
                del self.timers[name]
                action()

        self.clock.at(seconds, fire)

    def start_unit(self, name: str, work: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a detached command, which is served when its time has passed, if the machine is still up then."""
        command = parse_command(argv)
        self._started += 1
        unit = self.units[name] = Unit(work, dict(env or {}), f"{self._started:032x}")

        def end() -> None:
            if self.units.get(name) is unit:
                unit.done = self.run(command)

        self.clock.at(self.unit_s.get(command.name, UNIT_S), end)

    def arm_dead_man(self) -> None:
        self.timer(TIMER, self.dead_man_s, self._dead_man)

    def _come_up(self, system: str, this_boot: int) -> None:
        if this_boot != self._boots:
            return  # it went down again meanwhile
        self.tell(f"{system or 'nothing'} boots")
        if not system:
            return
        self.runs, self.up = system, True
        self.boot_id = f"{self._boots:08}-0000-4000-8000-444455556666"
        self.booted_at = self.clock.monotonic()
        if system == "installer":
            self._installer_starts()
        if system == "trial":
            self.timer(WATCH, self.watch_s, self.reset)

    def _installer_starts(self) -> None:
        run_id, self.dead_man_s = self.handed or (RUN, 0.0)
        stock, self.handed, self.stock = self.stock, None, False
        self.files |= self.kept
        self.kept = {}
        if stock:
            return
        mark: dict[str, object] = {"image_id": "lab-1", "run_id": run_id, "state": "restored"}
        if self.dead_man_s:
            mark |= self.before_it
            mark |= {"dead_man_at": self.clock.now() + self.dead_man_s, "dead_man_s": self.dead_man_s}
            self.arm_dead_man()
        elif MARK_ON_DISK in self.files:
            self.files[MARK_IN_RAM] = self.files[MARK_ON_DISK]  # the standby hands it over
        self.files[INSTALLER_MARK] = json.dumps(mark).encode()

    def _dead_man(self) -> None:
        if not self.mounted and MARK_IN_RAM not in self.files:
            self.tell("dead-man fires")
            self.reset()
