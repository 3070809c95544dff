"""A machine, the boot that has to answer, and the log to report to: what every phase works with."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final

from holdfast.base.command import CommandResult
from holdfast.base.errors import Restarted
from holdfast.base.log import Log
from holdfast.base.telling import telling
from holdfast.base.text import printable
from holdfast.base.waiting import wait_for
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.nixcli.copying import copy_closure
from holdfast.ssh import keeping
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import connect, connect_over_last_way, is_over_local
from holdfast.ssh.upload import upload_over_links
from holdfast.target.dead_man import Feeder
from holdfast.target.detached import run_detached

BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
LOOK_S: Final = 60


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is worked on.

    Every connection is checked against `boot_id`. After a power cycle another system may answer with the same host key,
    and work that was begun before would be wrong there.

    Attributes:
        host: which machine, as the inventory describes it.
        log: where the work reports to.
        boot_id: the boot that has to answer; empty for any.
        node: who it is on its tailnet, once a plan says so: then its own address is tried too (see reach.connect).

    """

    host: Host
    log: Log
    boot_id: str = ""
    node: Identity | None = None

    def on_boot(self, boot_id: str) -> "Machine":
        """Return the machine for work that must not continue on another boot."""
        return replace(self, boot_id=boot_id)

    def connect(self, *, first_use: bool = False) -> Connection:
        """Connect once, as the inventory says. Use this for what has to be proved over the tailnet.

        A connection that a run keeps is used again if it leads the same way (holdfast/ssh/keeping.py).

        Args:
            first_use: see reach.connect.

        Raises:
            Restarted: another boot answers.
            LoginRefused, NotTrusted, Unreachable: see reach.connect.

        """
        with telling(self.log):
            kept = keeping.take(self.host.name, lambda target: not is_over_local(target, self.host))
            return self._on_this_boot(kept or keeping.lend(connect(self.host, node=self.node, first_use=first_use)))

    def connect_over_last_way(self) -> Connection:
        """Connect once, over the way that worked last. Raises as `connect`."""
        with telling(self.log):
            kept = keeping.take(self.host.name, lambda _target: True)
            return self._on_this_boot(kept or keeping.lend(connect_over_last_way(self.host, node=self.node)))

    def let_go(self) -> None:
        """Close the connection that is kept idle: the machine was told to leave this boot, or nobody needs it soon."""
        keeping.drop(self.host.name)

    def wait_and_connect(self) -> Connection:
        """Connect over the way that worked last. While the machine boots or the link is down, wait.

        Raises:
            NeverCame: it did not answer within `host.deadlines.answer_s`.
            Restarted, LoginRefused, NotTrusted: see connect.

        """
        return wait_for(
            f"{self.host.name} to answer", self.connect_over_last_way, deadline_s=self.host.deadlines.answer_s
        )

    def run_detached(
        self,
        name: str,
        argv: Sequence[str],
        *,
        work: str,
        timeout_s: float,
        env: Mapping[str, str] = MappingProxyType({}),
        begun: bool = False,
        dead_man_s: float = 0,
    ) -> CommandResult:
        """Run long work as a unit that outlives the link. Arguments and errors: see detached.run_detached.

        Each line that it writes is progress; dead_man_s is that of `copy`.
        """
        lines = count(1)
        with self._feeder(dead_man_s) as feeder:

            def on_line(line: str) -> None:
                self.log.line(line)
                feeder.moved(next(lines))
                feeder.feed_if_due()

            return run_detached(
                self.connect_over_last_way,
                name,
                argv,
                work=work,
                timeout_s=timeout_s,
                on_line=on_line,
                env=env,
                begun=begun,
            )

    def copy(
        self,
        paths: Sequence[str],
        *,
        root: str | None = None,
        substitute: bool = True,
        on_bytes: Callable[[int], None] | None = None,
        dead_man_s: float = 0,
    ) -> None:
        """Copy closures to the machine's store, or to the store below `root`. See copying.copy_closure.

        Args:
            paths: store paths.
            root: folder on the machine that holds the store; None for its own.
            substitute: whether it may first fetch what it can from its substituters, if the inventory lets it.
            on_bytes: called with the bytes copied so far.
            dead_man_s: how long the dead-man waits that is armed meanwhile: progress feeds it. 0 if none is armed.

        """
        with self._feeder(dead_man_s) as feeder:
            copy_closure(
                self.connect_over_last_way,
                self.host.name,
                paths,
                root=root,
                substitute=substitute and self.host.substitute_on_destination,
                options=self.host.nix_options,
                timeout_s=self.host.deadlines.copy_s,
                on_line=self.log.line,
                on_bytes=on_bytes,
                on_moved=feeder.moved,
                meanwhile=feeder.feed_if_due,
            )

    def upload(
        self,
        local: Path,
        remote: str,
        *,
        timeout_s: float,
        on_progress: Callable[[int, int], None] | None = None,
        dead_man_s: float = 0,
    ) -> None:
        """Upload a file. Reconnect as often as needed. See upload.upload_over_links; dead_man_s is that of `copy`."""
        with self._feeder(dead_man_s) as feeder:

            def report(done: int, total: int) -> None:
                feeder.moved(done)
                feeder.feed_if_due()
                if on_progress:
                    on_progress(done, total)

            upload_over_links(
                self.connect_over_last_way,
                local,
                remote,
                timeout_s=timeout_s,
                on_line=self.log.say,
                on_progress=report,
            )

    def _feeder(self, dead_man_s: float) -> closing[Feeder]:
        return closing(Feeder(self.connect_over_last_way, dead_man_s, self.log.line))

    def _on_this_boot(self, target: Connection) -> Connection:
        if self.boot_id and self.boot_id != target.boot_id:
            try:
                self._require_boot(target)
            except BaseException:
                target.close()
                raise
        return target

    def _require_boot(self, target: Connection) -> None:
        now = target.boot_id or printable(target.run(["cat", BOOT_ID], timeout_s=LOOK_S).stdout.strip())[:36]
        target.boot_id = now
        if now != self.boot_id:
            raise Restarted(
                f"{self.host.name} was rebooted while this phase worked on it: boot {now} answers, not {self.boot_id}.",
                hint="Retry the run: it continues from what it finds there.",
            )
