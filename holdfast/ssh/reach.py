"""Opens a connection to a host, whether the origin, the installer or the final system runs."""

import contextlib
from typing import Final

from holdfast.base import clock
from holdfast.base.errors import LoginRefused, NotTrusted, Unreachable
from holdfast.base.settings import settings
from holdfast.inventory.host import Host, parse_local
from holdfast.plan.plan import Login
from holdfast.ssh import connection
from holdfast.ssh.connection import Connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.hostkeys import HostKey
from holdfast.ssh.resolve import as_root, endpoint_beside, endpoint_for

# What answers in the machine's own network answers soon.
LOCAL_CONNECT_S: Final = 10
# How long the tailnet counts as silent after a host answered only at its local address.
SILENT_FOR_S: Final = 600
# By host name: when it last answered only at its local address, on the monotonic clock.
_silent_at: dict[str, float] = {}


def connect(host: Host, *, first_use: bool = False) -> Connection:
    """Connect as the inventory says, else as root on port 22, which is how installer and final system are reached.

    If nothing answers there and the inventory allows it, connect to its `local`, as root.

    Args:
        host: the host.
        first_use: True pins an unknown host key, only in the preflight and never over `local`; False refuses it.

    Raises:
        Unreachable: it does not answer.
        LoginRefused: it answers, and refuses both logins.
        NotTrusted: a host key answers that is not the expected one.

    """
    try:
        return _connect_to_target(host, first_use=first_use)
    except Unreachable as error:
        local = _local_endpoint(host)
        if local is None:
            raise
        try:
            found = connection.open_connection(local, timeout_s=min(LOCAL_CONNECT_S, host.deadlines.connect_s))
        except (LoginRefused, NotTrusted, Unreachable) as other:
            # Another machine may have that address by now, which is no reason to stop waiting for this one.
            raise Unreachable(f"{error.message} And at its local address: {other.message}", hint=error.hint) from error
        _silent_at[host.name] = clock.monotonic()
        return found


def connect_over_last_way(host: Host) -> Connection:
    """Connect as `connect`, but first to `local` if that worked a moment ago: waiting for a silent tailnet costs time.

    For work that may use either way. What must be proved over the tailnet uses `connect`.

    Raises:
        LoginRefused, NotTrusted, Unreachable: see connect.

    """
    local = _local_endpoint(host)
    if local is not None and clock.monotonic() - _silent_at.get(host.name, -SILENT_FOR_S) < SILENT_FOR_S:
        with contextlib.suppress(LoginRefused, NotTrusted, Unreachable):
            return connection.open_connection(local, timeout_s=LOCAL_CONNECT_S)
    return connect(host)


def _connect_to_target(host: Host, *, first_use: bool) -> Connection:
    timeout_s = host.deadlines.connect_s
    ours = as_root(host)
    try:
        return connection.open_connection(
            endpoint_for(host, settings(), allow_first_use=first_use), timeout_s=timeout_s
        )
    except (LoginRefused, Unreachable) as error:
        if (host.user, host.port) == (ours.user, ours.port):
            raise
        try:
            return connection.open_connection(endpoint_for(ours, settings()), timeout_s=timeout_s)
        except (LoginRefused, Unreachable):
            raise error from None


def is_over_local(target: Connection, host: Host) -> bool:
    """Return whether a connection leads to the inventory's `local`: the target itself did not answer."""
    local = _local_endpoint(host)
    return local is not None and target.endpoint == local


def _local_endpoint(host: Host) -> Endpoint | None:
    """Return the endpoint of `local`; None if a run may not use it, or if the target is the same address."""
    if not host.go_on_over_local or host.local is None:
        return None
    address, port = parse_local(host.local)
    own = endpoint_for(as_root(host), settings())
    if own.proxy is None and (own.address, own.port) == (address, port):
        return None
    return endpoint_beside(host, settings(), address, port)


def login_of(target: Connection, host: Host) -> Login:
    """Return how a connection logged in.

    If no key was asked for, as by Tailscale's SSH server, its key is the `.pub` beside the inventory's `identity_file`.
    """
    key = target.login_key
    if not key and host.identity_file is not None:
        public = host.identity_file.with_name(f"{host.identity_file.name}.pub")
        found = HostKey.parse(public.read_text(errors="replace")) if public.is_file() else None
        key = str(found) if found else ""
    return Login(user=target.endpoint.user, port=target.endpoint.port, key=key)
