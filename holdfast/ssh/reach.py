"""Opens a connection to a host, whether the origin, the installer or the final system runs."""

import contextlib
from typing import Final

from holdfast.base import clock
from holdfast.base.errors import LoginRefused, NotTrusted, Unreachable
from holdfast.base.settings import settings
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, parse_local
from holdfast.plan.plan import Login
from holdfast.plan.way_in import Reached
from holdfast.ssh import connection
from holdfast.ssh.connection import Connection
from holdfast.ssh.endpoint import Endpoint, Jump, Proxy, ProxyCommand, Socks5
from holdfast.ssh.hostkeys import HostKey
from holdfast.ssh.resolve import endpoint_as_root, endpoint_beside, endpoint_for
from holdfast.ssh.sshconfig import asked_once

# What answers in the machine's own network answers soon.
LOCAL_CONNECT_S: Final = 10
# How long the tailnet counts as silent after a host answered only at its local address.
SILENT_FOR_S: Final = 600
# By host name: when it last answered only at its local address, on the monotonic clock.
_silent_at: dict[str, float] = {}
# By host name: the address that answered last, of the inventory's target and the node's own on its tailnet.
_answered_at: dict[str, str] = {}


@asked_once()
def connect(host: Host, *, node: Identity | None = None, first_use: bool = False) -> Connection:
    """Connect as the inventory says, else as root on port 22, which is how installer and final system are reached.

    If nothing answers there and the inventory allows it, connect to its `local`, as root.

    Args:
        host: the host.
        node: who it is on its tailnet, once that is known: then its own address is tried as well. The name in `target`
            may follow the machine's host name, and lead nowhere, or to another machine, once the new system runs.
        first_use: True pins an unknown host key, only in the preflight and never over `local`; False refuses it.

    Raises:
        Unreachable: it does not answer.
        LoginRefused: it answers, and refuses both logins, or root to the one that it lets in.
        NotTrusted: a host key answers that is not the expected one.

    """
    try:
        if node is None:
            return _connect_to_target(host, first_use=first_use)
        return _connect_to_node(host, node)
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


@asked_once()
def connect_over_last_way(host: Host, *, node: Identity | None = None) -> Connection:
    """Connect as `connect`, but first to `local` if that worked a moment ago: waiting for a silent tailnet costs time.

    For work that may use either way. What must be proved over the tailnet uses `connect`.

    Raises:
        LoginRefused, NotTrusted, Unreachable: see connect.

    """
    local = _local_endpoint(host)
    if local is not None and clock.monotonic() - _silent_at.get(host.name, -SILENT_FOR_S) < SILENT_FOR_S:
        with contextlib.suppress(LoginRefused, NotTrusted, Unreachable):
            return connection.open_connection(local, timeout_s=LOCAL_CONNECT_S)
    return connect(host, node=node)


def _connect_to_node(host: Host, node: Identity) -> Connection:
    """Connect to the inventory's target and to the node's own address, whichever answers as the expected machine.

    A name that MagicDNS gave the node leads to the node's address, or astray: the address comes first. Any other target
    comes first itself, for the operator may not be on the tailnet.
    """
    target, own = endpoint_for(host, settings()).address, node.reached_at()
    if not own or target in node.addresses:
        return _connect_to_target(host, first_use=False)
    is_name_of_node = node.is_called(target)
    ways = [own, target] if is_name_of_node else [target, own]
    ways.sort(key=lambda way: way != _answered_at.get(host.name))
    errors: dict[str, LoginRefused | NotTrusted | Unreachable] = {}
    for way in ways:
        try:
            found = _connect_to_target(host, first_use=False, at=own if way == own else "")
        except (LoginRefused, NotTrusted, Unreachable) as error:
            errors[way] = error
        else:
            _answered_at[host.name] = way
            return found
    at_target, at_own = errors[target], errors[own]
    if isinstance(at_target, LoginRefused):
        raise at_target
    if not isinstance(at_own, Unreachable) and (is_name_of_node or isinstance(at_target, NotTrusted)):
        raise at_own
    # Another machine may have the target's name by now, which is no reason to stop waiting for this one.
    raise Unreachable(
        f"{at_target.message} And at its tailnet address: {at_own.message}", hint=errors[ways[0]].hint
    ) from at_target


def _connect_to_target(host: Host, *, first_use: bool, at: str = "") -> Connection:
    """Connect with the inventory's login, else as root on port 22; `at` as for endpoint_for."""
    timeout_s = host.deadlines.connect_s
    first = endpoint_for(host, settings(), allow_first_use=first_use, at=at)
    try:
        return _open_with_root(first, timeout_s=timeout_s)
    except (LoginRefused, Unreachable) as error:
        # The ssh config may name another user or port, too.
        if (first.user, first.port) == ("root", 22):
            raise
        try:
            return connection.open_connection(endpoint_as_root(host, settings(), at=at), timeout_s=timeout_s)
        except (LoginRefused, Unreachable):
            raise error from None


def _open_with_root(endpoint: Endpoint, *, timeout_s: float) -> Connection:
    """Open a connection of which root can be had.

    The new system may know the origin's login, and ask it for a password (sudo in NixOS does), or not let it become
    root at all. Then root's own login is the way in.

    Raises:
        LoginRefused: also if the login does not become root.
        NotTrusted, Unreachable: see open_connection.

    """
    found = connection.open_connection(endpoint, timeout_s=timeout_s)
    if endpoint.user == "root" or endpoint.elevation.method == "none":
        return found
    try:
        found.run(["true"], timeout_s=timeout_s)
    except BaseException:
        found.close()
        raise
    return found


@asked_once()
def is_over_local(target: Connection, host: Host) -> bool:
    """Return whether a connection leads to the inventory's `local`: the target itself did not answer."""
    local = _local_endpoint(host)
    return local is not None and target.endpoint == local


def _local_endpoint(host: Host) -> Endpoint | None:
    """Return the endpoint of `local`; None if a run may not use it, or if the target is the same address."""
    if not host.go_on_over_local or host.local is None:
        return None
    address, port = parse_local(host.local)
    own = endpoint_as_root(host, settings())
    if own.proxy is None and (own.address, own.port) == (address, port):
        return None
    return endpoint_beside(host, settings(), address, port)


def login_of(target: Connection, host: Host) -> Login:
    """Return how a connection logged in.

    If no key was asked for, as by Tailscale's SSH server, its key is the `.pub` beside the inventory's `identity_file`.
    """
    key = target.login_key or _key_beside(host)
    return Login(user=target.endpoint.user, port=target.endpoint.port, key=key)


def reached(target: Connection, host: Host) -> Reached:
    """Return how a connection got in, and with which keys the operator could get in again."""
    endpoint, logged_in = target.endpoint, target.link.logged_in
    beside = _key_beside(host) if logged_in.method == "no key" else ""
    keys = (beside, *logged_in.keys) if beside else logged_in.keys
    return Reached(
        user=endpoint.user,
        address=endpoint.address,
        port=endpoint.port,
        through=_through(endpoint.proxy),
        method=logged_in.method,
        keys=tuple(dict.fromkeys(keys)),
        host_key=target.host_key,
    )


def _key_beside(host: Host) -> str:
    """Return the `.pub` beside the inventory's `identity_file`; empty if there is none."""
    if host.identity_file is None:
        return ""
    public = host.identity_file.with_name(f"{host.identity_file.name}.pub")
    found = HostKey.parse(public.read_text(errors="replace")) if public.is_file() else None
    return str(found) if found else ""


def _through(proxy: Proxy | None) -> str:
    """Name what carries a connection; a command may have secrets among its words."""
    match proxy:
        case None:
            return ""
        case Jump(via=via):
            before = _through(via.proxy)
            return f"by the jump host {via.user}@{via.address}, port {via.port}{', ' + before if before else ''}"
        case Socks5(address=address, port=port):
            return f"by the SOCKS5 proxy {address}, port {port}"
        case ProxyCommand(argv=argv):
            # ProxyCommand of the ssh config runs in a shell.
            program = (
                argv[2].removeprefix("exec ").split()[:1]
                if argv[1:2] == ("-c",) and argv[2].startswith("exec ")
                else argv[:1]
            )
            return f"by a command ({' '.join(program)})"
