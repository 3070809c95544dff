"""Opens a connection to a host, whichever of its systems runs."""

from tasks.model.errors import LoginRefused, Unreachable
from tasks.model.host import Host
from tasks.model.plan import Login
from tasks.model.settings import settings
from tasks.remote.connection import Connection, connect
from tasks.remote.hostkeys import HostKey
from tasks.remote.resolve import endpoint_for


def as_root(host: Host) -> Host:
    """Return the host as its installer and its final system are reached."""
    return host.model_copy(update={"user": "root", "port": 22, "elevation": "none"})


def reach(host: Host, *, first_use: bool = False) -> Connection:
    """Connect as the inventory says, else as root on port 22, which is how installer and final system are reached.

    Args:
        host: the host.
        first_use: pin a host key that nobody knows yet; only the preflight does.

    Raises:
        Unreachable: it does not answer.
        LoginRefused: it answers, and lets neither login in.
        NotTrusted: another host key than the expected one answers.

    """
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
