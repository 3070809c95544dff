"""Whether Holdfast gets into the new system: to its SSH server, past its lists and its firewall, and to root."""

import fnmatch
from collections.abc import Iterator
from typing import Final, NamedTuple

from holdfast.inventory.host import Host, Way
from holdfast.plan.configuration import Configuration
from holdfast.plan.plan import Plan
from holdfast.plan.refusals.becoming_root import becomes_root
from holdfast.plan.refusals.clients import kept_out_by, lets_in, listens, match_lets_root_in
from holdfast.plan.refusals.flags import switch
from holdfast.plan.refusals.refusal import Refusal

# sshd_config(5), PermitRootLogin: with these values, root gets no shell with a key.
_ROOT_KEPT_OUT: Final = ("no", "forced-commands-only")
# With this services.tailscale.interfaceName there is no interface: connections come from tailscaled itself.
_NO_INTERFACE: Final = "userspace-networking"
# Where NixOS puts the keys of its options (nixos/modules/services/networking/ssh/sshd.nix).
_KEYS_OF_NIXOS: Final = "/etc/ssh/authorized_keys.d/"
_SSH_PORT: Final = 22


class _Login(NamedTuple):
    user: str
    port: int


def serves_tailscale_ssh(seen: Configuration, host: Host, plan: Plan) -> bool:
    """Return whether Tailscale's own SSH server answers on the tailnet's port 22 of the new system.

    `tailscale set` runs at each start; `tailscale up` only on a node that is not logged in yet, and one whose state is
    carried over is. It keeps its preferences (nixos/modules/services/networking/tailscale.nix).
    """
    if host.way is not Way.TAILSCALE or not seen.tailscale:
        return False
    told = switch(seen.tailscale_set_flags, "ssh")
    if told is not None:
        return told
    return plan.origin.tailscale_ssh if plan.carries_state else bool(switch(seen.tailscale_up_flags, "ssh"))


def login(seen: Configuration, host: Host, plan: Plan, name: str, *, sudo_password: bool) -> Iterator[Refusal]:
    """Follow the logins that Holdfast tries into the new system, and on to root. Only the first gap counts.

    Tailscale's SSH server takes a login in without sshd and keys: the tailnet's policy decides, which is not seen here.
    """
    flags = seen.tailscale_set_flags if plan.carries_state else (*seen.tailscale_up_flags, *seen.tailscale_set_flags)
    if host.way is Way.TAILSCALE and switch(flags, "shields-up"):
        yield Refusal(
            "no-sshd",
            f"{name} shuts the tailnet out (--shields-up): nobody could log in to {host.name} over it.",
            "Remove --shields-up from services.tailscale.extraSetFlags there.",
        )
        return
    if serves_tailscale_ssh(seen, host, plan):
        return
    # Like holdfast/ssh/reach.py: as the inventory says, else as root on port 22.
    tried = [_Login(host.user, host.port), _Login(plan.origin.login.user, plan.origin.login.port)]
    logins = list(dict.fromkeys([*tried, _Login("root", _SSH_PORT)]))
    served: list[_Login] = []
    for one in _served(seen, host, logins, name):
        if isinstance(one, Refusal):
            yield one
            return
        served.append(one)
    opened = [one for one in served if _firewall_opens(seen, host.way, one.port)]
    if not opened:
        where = f"the interface {seen.tailscale_interface}" if host.way is Way.TAILSCALE else host.target
        yield Refusal(
            "no-sshd",
            f"the firewall of {name} closes SSH on {where}.",
            "Set services.openssh.openFirewall = true there, or open the port in networking.firewall.",
        )
        return
    known = _with_key(seen, host, plan, opened)
    if not known:
        yield _no_key(seen, host, plan, name, opened)
        return
    if not any(becomes_root(seen, one.user, host.elevation, sudo_password=sudo_password) for one in known):
        user = known[0].user
        yield Refusal(
            "no-root",
            f"{name} lets {user} in, but not on to root: {host.elevation} is not there, or asks for a password.",
            f'Add the key to users.users.root.openssh.authorizedKeys.keys there; or permit {user} NOPASSWD "ALL" in'
            " security.sudo.extraRules (of doas: noPass in security.doas.extraRules); or set"
            " HOLDFAST_SUDO_PASSWORD_FILE.",
        )


def _served(seen: Configuration, host: Host, logins: list[_Login], name: str) -> Iterator[_Login | Refusal]:
    """Yield the logins that sshd takes a key of, or why it takes none."""
    if not seen.sshd:
        yield Refusal(
            "no-sshd",
            f"{name} starts no sshd: nobody could log in to {host.name}.",
            "Set services.openssh.enable = true there.",
        )
        return
    heard = [one for one in logins if listens(seen, one.port, host.way, host.target)]
    if not heard:
        ports = ", ".join(map(str, seen.ssh_ports)) or "no port"
        at = {listen.address for listen in seen.ssh_listen if listen.address}
        yield Refusal(
            "no-sshd",
            f"sshd of {name} listens on {ports}{' of ' + ', '.join(sorted(at)) if at else ''}, and Holdfast logs in to"
            f" the final system on port {' or '.join(dict.fromkeys(str(one.port) for one in logins))}.",
            "Set services.openssh.ports = [ 22 ] there, and leave services.openssh.listenAddresses empty; or name its"
            " port in the inventory.",
        )
        return
    if (methods := _keys_refused(seen)) is not None:
        yield Refusal(
            "no-sshd",
            f"sshd of {name} lets nobody in with a key alone ({methods}).",
            "Leave PubkeyAuthentication and AuthenticationMethods in services.openssh.settings as they are by default.",
        )
        return
    # PermitRootLogin keeps root out, whatever the lists say.
    root_kept_out = seen.root_login in _ROOT_KEPT_OUT and not match_lets_root_in(seen, host.way)
    shelled = [one for one in heard if one.user != "root" or not root_kept_out]
    if not shelled:
        yield Refusal(
            "no-sshd",
            f"sshd of {name} keeps root out (PermitRootLogin {seen.root_login}), and Holdfast logs in as root.",
            'Set services.openssh.settings.PermitRootLogin = "prohibit-password" there, or name another user and'
            " elevation in the inventory.",
        )
        return
    lists = {one.user: kept_out_by(seen, one.user, host.way) for one in shelled}
    listed = [one for one in shelled if not lists[one.user]]
    if not listed:
        user = shelled[0].user
        yield Refusal(
            "no-sshd",
            f"sshd of {name} keeps {' and '.join(lists)} out ({lists[user]:.200}).",
            f"Let {user} in there, in services.openssh.settings.",
        )
        return
    there = [one for one in listed if _may_have_shell(seen, one.user)]
    if not there:
        yield Refusal(
            "no-sshd",
            f"{name} has no user {listed[0].user} with a shell, and Holdfast logs in as"
            f" {' or '.join(dict.fromkeys(one.user for one in listed))}.",
            f"Set users.users.{listed[0].user}.isNormalUser = true there, or name another user in the inventory.",
        )
        return
    yield from there


def _keys_refused(seen: Configuration) -> str | None:
    """Return the setting that makes a key alone too little; None if it is enough."""
    if seen.ssh_setting("PubkeyAuthentication")[:1] == ("no",):
        return "PubkeyAuthentication no"
    methods = seen.ssh_setting("AuthenticationMethods")
    if methods and not {"any", "publickey"} & set(methods):
        return f"AuthenticationMethods {' '.join(methods):.200}"
    return None


def _may_have_shell(seen: Configuration, user: str) -> bool:
    """Return whether a user is there and gets a shell; users that a directory service knows are not seen."""
    if user in seen.users:
        return seen.users[user].shell
    return user == "root" or seen.keys_command or user in seen.keys


def _firewall_opens(seen: Configuration, way: Way, port: int) -> bool:
    interface = seen.tailscale_interface
    if way is Way.STANDARD:
        return seen.firewall.opens_beside(port, interface)
    return interface == _NO_INTERFACE or seen.firewall.opens(port, interface)


def _with_key(seen: Configuration, host: Host, plan: Plan, served: list[_Login]) -> list[_Login]:
    """Return the logins whose key the system knows: the one that logs in now, or any if that is not known."""
    if seen.keys_command:
        return served
    key = plan.origin.login.key
    if not _reads_keys(seen) or not _accepts_kind(seen, key):
        return []
    found = {one: _usable_keys(seen, host, one.user) for one in served}
    return [one for one in served if (key in found[one] if key else found[one])]


def _usable_keys(seen: Configuration, host: Host, user: str) -> set[str]:
    lines = seen.authorized_keys(user)
    use_dns = seen.ssh_setting("UseDns")[:1] == ("yes",)
    return {line.key for line in lines if lets_in(lines, line.key, host.way, use_dns=use_dns)}


def _reads_keys(seen: Configuration) -> bool:
    return not seen.key_files or any(file.startswith(_KEYS_OF_NIXOS) for file in seen.key_files)


def _accepts_kind(seen: Configuration, key: str) -> bool:
    """Return whether sshd accepts this kind of key (PubkeyAcceptedAlgorithms, which may be a change of the default)."""
    algorithms = ",".join(seen.ssh_setting("PubkeyAcceptedAlgorithms"))
    kind = key.partition(" ")[0]
    if not algorithms or not kind or algorithms[0] in "+^-":
        return True
    kinds = ("rsa-sha2-256", "rsa-sha2-512") if kind == "ssh-rsa" else (kind,)
    return any(fnmatch.fnmatchcase(one, pattern) for one in kinds for pattern in algorithms.split(","))


def _no_key(seen: Configuration, host: Host, plan: Plan, name: str, served: list[_Login]) -> Refusal:
    users = list(dict.fromkeys(one.user for one in served))
    key = plan.origin.login.key
    place = f"users.users.{users[0]}.openssh.authorizedKeys.keys"
    if not _reads_keys(seen):
        return Refusal(
            "no-authorized-key",
            f"sshd of {name} does not read the keys of its users' options ({' '.join(seen.key_files):.200}).",
            f"Add {_KEYS_OF_NIXOS}%u to services.openssh.authorizedKeysFiles there.",
        )
    if not _accepts_kind(seen, key):
        return Refusal(
            "no-authorized-key",
            f"sshd of {name} does not accept the kind of key that logs in to {host.name} now ({key.split()[0]}).",
            "Add it to services.openssh.settings.PubkeyAcceptedAlgorithms there.",
        )
    if not any(seen.authorized_keys(user) for user in users):
        return Refusal(
            "no-authorized-key",
            f"{name} has no SSH key for {' or '.join(users)}: nobody could log in to {host.name}.",
            f"Add yours to {place} there.",
        )
    if not key or any(key == line.key for user in users for line in seen.authorized_keys(user)):
        return Refusal(
            "no-authorized-key",
            f"{name} lets the SSH key of {' or '.join(users)} in only with conditions (from=, command=).",
            f"Add the one that logs in to {host.name} now to {place} there, without them.",
        )
    return Refusal(
        "no-authorized-key",
        f"{name} does not know the SSH key that logs in to {host.name} now: {key[:40]}…{key[-12:]}.",
        f"Add it to {place} there.",
    )
