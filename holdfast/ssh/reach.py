"""Opens a connection to a host, whichever of its systems runs."""

import contextlib
import time
from typing import Final

from holdfast.base.errors import LoginRefused, NotTrusted, Restarted, Unreachable
from holdfast.base.settings import settings
from holdfast.base.text import printable
from holdfast.base.waiting import wait_for
from holdfast.inventory.host import Host, parse_local
from holdfast.plan.plan import Login
from holdfast.ssh.connection import Connection, connect
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.hostkeys import HostKey
from holdfast.ssh.resolve import as_root, endpoint_beside, endpoint_for

BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
LOOK_S: Final = 60
# What answers in the machine's own network answers soon.
LOCAL_S: Final = 10
SILENT_FOR_S: Final = 600
# When a host was found at its local address only, by name, on the monotonic clock.
_silent_at: dict[str, float] = {}


def reach(host: Host, *, first_use: bool = False) -> Connection:
    """Connect as the inventory says, else as root on port 22, which is how installer and final system are reached.

    If nothing answers there and the inventory allows it, connect to its `local`, as root.

    Args:
        host: the host.
        first_use: pin a host key that nobody knows yet; only the preflight does, and never over `local`.

    Raises:
        Unreachable: it does not answer.
        LoginRefused: it answers, and lets neither login in.
        NotTrusted: another host key than the expected one answers.

    """
    try:
        return _reach_target(host, first_use=first_use)
    except Unreachable as error:
        local = _local_endpoint(host)
        if local is None:
            raise
        try:
            found = connect(local, timeout_s=min(LOCAL_S, host.deadlines.connect_s))
        except (LoginRefused, NotTrusted, Unreachable) as other:
            # Another machine may have that address by now: no reason to stop waiting for this one.
            raise Unreachable(f"{error.message} And at its local address: {other.message}", hint=error.hint) from error
        _silent_at[host.name] = time.monotonic()
        return found


def reach_soon(host: Host, *, boot_id: str = "") -> Connection:
    """Connect as `reach`; first to `local`, if that was the way a moment ago: a silent tailnet costs time.

    For work that goes on over whichever way there is. What has to be proved over the tailnet uses `reach`.

    Args:
        host: the host.
        boot_id: the boot that the work began on, for work that would be wrong on another: a machine that was
            switched off and on answers from its origin with the same host key.

    Raises:
        Restarted: another boot answers.
        LoginRefused, NotTrusted, Unreachable: see reach.

    """
    target = _reach_whichever(host)
    if boot_id:
        try:
            _require_boot(host, target, boot_id)
        except BaseException:
            target.close()
            raise
    return target


def _require_boot(host: Host, target: Connection, boot_id: str) -> None:
    now = printable(target.run(["cat", BOOT_ID], timeout_s=LOOK_S).stdout.strip())[:36]
    if now != boot_id:
        raise Restarted(
            f"{host.name} was rebooted while this phase worked on it: boot {now} answers, not {boot_id}.",
            hint="Retry the run: it looks at what it finds there, and goes on from that.",
        )


def _reach_whichever(host: Host) -> Connection:
    local = _local_endpoint(host)
    if local is not None and time.monotonic() - _silent_at.get(host.name, -SILENT_FOR_S) < SILENT_FOR_S:
        with contextlib.suppress(LoginRefused, NotTrusted, Unreachable):
            return connect(local, timeout_s=LOCAL_S)
    return reach(host)


def arrive(host: Host, *, boot_id: str = "") -> Connection:
    """Connect as `reach_soon`, and wait for a target that is out of reach: it boots, or the link is down.

    Raises:
        NeverCame: it did not answer within `host.deadlines.answer_s`.
        LoginRefused, NotTrusted: see reach.
        Restarted: see reach_soon.

    """
    return wait_for(
        f"{host.name} to answer", lambda: reach_soon(host, boot_id=boot_id), deadline_s=host.deadlines.answer_s
    )


def _reach_target(host: Host, *, first_use: bool) -> Connection:
    timeout_s = host.deadlines.connect_s
    ours = as_root(host)
    try:
        return connect(endpoint_for(host, settings(), allow_first_use=first_use), timeout_s=timeout_s)
    except (LoginRefused, Unreachable) as error:
        if (host.user, host.port) == (ours.user, ours.port):
            raise
        try:
            return connect(endpoint_for(ours, settings()), timeout_s=timeout_s)
        except (LoginRefused, Unreachable):
            raise error from None


def is_over_local(target: Connection, host: Host) -> bool:
    """Say whether a connection that `reach` opened leads to the inventory's `local`, because the target was silent."""
    local = _local_endpoint(host)
    return local is not None and target.endpoint == local


def _local_endpoint(host: Host) -> Endpoint | None:
    """Return the way to `local`; None if a run may not go on over it, or the target is the same address."""
    if not host.go_on_over_local or host.local is None:
        return None
    address, port = parse_local(host.local)
    own = endpoint_for(as_root(host), settings())
    if own.proxy is None and (own.address, own.port) == (address, port):
        return None
    return endpoint_beside(host, settings(), address, port)


def login_of(target: Connection, host: Host) -> Login:
    """Return how a connection logged in.

    If no key was asked for, as by Tailscale's SSH server, it is the one beside the inventory's `identity_file`.
    """
    key = target.login_key
    if not key and host.identity_file is not None:
        public = host.identity_file.with_name(f"{host.identity_file.name}.pub")
        found = HostKey.parse(public.read_text(errors="replace")) if public.is_file() else None
        key = str(found) if found else ""
    return Login(user=target.endpoint.user, port=target.endpoint.port, key=key)
