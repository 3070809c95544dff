"""The way in: how Holdfast logged in, and whether the installer will let the same login in, with the same host key.

The installer has what `kexec/run` hands over, and nothing else: lines of authorized keys, and host keys. It knows no
other AuthorizedKeysFile, no AuthorizedKeysCommand, no authority of users, no password. Holdfast's own image also takes
the public key that logs in, and the host key that answered, wherever its file is (nix/scripts/origin/kexec-run.sh).
"""

from typing import Final, Literal, NamedTuple

from holdfast.base.errors import TargetRefused
from holdfast.base.frozen import Frozen
from holdfast.facts.facts import Facts
from holdfast.facts.ssh import HostKeyFile, fingerprint
from holdfast.inventory.host import Host, Way
from holdfast.plan.refusals.clients import lets_in

# The operator may have many keys; a login without one names the first of them.
MAX_KEYS: Final = 20
_ROOTS_KEYS: Final = "/root/.ssh/authorized_keys"
_SECURITY_KEYS: Final = "sk-"

Method = Literal["key", "certificate", "no key"]


class Reached(NamedTuple):
    """How a connection got in.

    Attributes:
        user: the login.
        address: where it leads.
        port: TCP port there.
        through: what carries it, in words; empty for direct TCP.
        method: how the server let it in; `no key` if it asked for nothing, as Tailscale's own SSH server does.
        keys: plain public keys that the operator can log in with, `TYPE BASE64`: that of the login; after a login
            without one, those that would have been offered, in their order.
        host_key: the host key that answered, `TYPE BASE64`.

    """

    user: str
    address: str
    port: int
    through: str
    method: Method
    keys: tuple[str, ...]
    host_key: str


class WayIn(Frozen):
    """How Holdfast logged in, and by what the installer lets it in. Nothing of this is secret.

    Attributes:
        user, address, port, through, method: see Reached.
        key: the public key that logs in to the installer; empty if there is none.
        authorized: whether the target's authorized_keys let that key in: then every image does.
        tailscale_ssh: whether the installer lets in by Tailscale's own SSH server, without a key.
        host_key: the host key that answered.
        host_key_file: the file of its private half on the target; empty if none was found.

    """

    user: str
    address: str
    port: int
    through: str = ""
    method: Method
    key: str = ""
    authorized: bool = False
    tailscale_ssh: bool = False
    host_key: str
    host_key_file: str = ""

    @property
    def host_key_is_usual(self) -> bool:
        """Whether the host key lies where every image takes it from."""
        return self.host_key_file == _usual_file(self.host_key)

    @property
    def flags(self) -> list[str]:
        """What Holdfast's own `kexec/run` is told of it."""
        # sshd wants a touch for a security key, unless its line says otherwise, as where it logs in now.
        touch = "no-touch-required " if self.key.startswith(_SECURITY_KEYS) else ""
        login = ["--login-key", f"{touch}{self.key}"] if self.key and not self.authorized else []
        return [*login, "--host-key", self.host_key]


def make_way_in(reached: Reached, facts: Facts, host: Host) -> WayIn | None:
    """Return the way in; None if the target's answer says nothing of SSH keys.

    Args:
        reached: how a connection got in.
        facts: what was observed over it.
        host: the host.

    """
    if facts.authorized_keys is None or facts.host_key_files is None:
        return None
    lines = facts.authorized_keys
    if host.way is Way.STANDARD:
        # The stock image keeps a key only if a blank follows its type.
        lines = tuple(line for line in lines if line.has_blank)
    authorized = [key for key in reached.keys if lets_in(lines, key, host.way)]
    # With a key of anybody, the installer's own sshd answers in place of Tailscale's (installer/tailscale-prefs.sh).
    stays = host.way is Way.TAILSCALE and facts.tailscale.ssh and all(line.options for line in lines)
    tailscale_ssh = reached.method == "no key" and not authorized and stays
    return WayIn(
        user=reached.user,
        address=reached.address,
        port=reached.port,
        through=reached.through,
        method=reached.method,
        key="" if tailscale_ssh else next(iter((*authorized, *reached.keys)), ""),
        authorized=bool(authorized),
        tailscale_ssh=tailscale_ssh,
        host_key=reached.host_key,
        host_key_file=_file_of(reached.host_key, facts),
    )


def check_way_in(way: WayIn, host: Host, *, takes_login: bool) -> None:
    """Refuse to start an installer that would not let Holdfast in, or answer with another host key.

    Args:
        way: the way in.
        host: the host.
        takes_login: see Image; True for one that is not built yet, since `build` checks again.

    Raises:
        TargetRefused: nobody but the dead-man would tell.

    """
    # In the standard way the image is told nothing, whatever it takes.
    takes_all = host.way is Way.TAILSCALE and takes_login
    _check_login(way, host, takes_all=takes_all)
    _check_host_key(way, host, takes_all=takes_all)


def _check_login(way: WayIn, host: Host, *, takes_all: bool) -> None:
    if way.authorized or way.tailscale_ssh or (way.key and takes_all):
        return
    if not way.key:
        raise TargetRefused(
            f"{host.name} lets {way.user} in without a key, and the installer would not: Holdfast has no key to log in"
            " with there.",
            hint="Give the operator an SSH key (identity_file in the inventory, or the agent)"
            + ("." if takes_all else f", and put its public half into {_ROOTS_KEYS} there."),
        )
    raise TargetRefused(
        f"the installer would not know {_who(way)}, {fingerprint(way.key)}: it is not in the authorized_keys of root,"
        " or not without conditions, and the image takes no other.",
        hint=f"Put this line into {_ROOTS_KEYS} on {host.name}: {way.key}{_or_build(host)}",
    )


def _check_host_key(way: WayIn, host: Host, *, takes_all: bool) -> None:
    usual = _usual_file(way.host_key)
    if way.host_key_is_usual or (way.host_key_file and usual and takes_all):
        return
    if not usual:
        raise TargetRefused(
            f"{host.name} answered with a host key that the installer cannot have: {fingerprint(way.host_key)}.",
            hint="Let its sshd answer with an ed25519, ECDSA or RSA key as well, and put that into known_hosts.",
        )
    if not way.host_key_file:
        raise TargetRefused(
            f"{host.name} answered with the host key {fingerprint(way.host_key)}, whose file is not known: it is none"
            " of /etc/ssh/ssh_host_*_key, nor of HostKey in sshd_config. The installer would answer with another one.",
            hint=f"Copy the private key, in OpenSSH's form, to {usual} on {host.name}, and its public half beside it.",
        )
    raise TargetRefused(
        f"{host.name} answered with the host key of {way.host_key_file}, and the image takes only those in /etc/ssh:"
        " the installer would answer with another one.",
        hint=f"Copy {way.host_key_file} and its .pub to {usual} and {usual}.pub on {host.name}{_or_build(host)}",
    )


def in_rows(way: WayIn) -> list[tuple[str, str]]:
    """Return the way in for people: what it is about, and what is known."""
    where = f"{way.user} at {way.address}, port {way.port}{', ' + way.through if way.through else ''}"
    if way.tailscale_ssh:
        login = "without a key, by Tailscale SSH, in the installer as well"
    elif not way.key:
        login = "without a key; the installer would not let anybody in so"
    else:
        by = "without a key; the installer takes the key" if way.method == "no key" else f"by {_who(way)}"
        kept = "which is in authorized_keys" if way.authorized else "which is handed over to the installer"
        login = f"{by} {fingerprint(way.key)}, {kept}"
    return [
        ("login", where),
        ("lets in", login),
        ("host key", f"{fingerprint(way.host_key)}, of {way.host_key_file or 'a file that is not known'}"),
    ]


def _who(way: WayIn) -> str:
    words: dict[Method, str] = {
        "key": "the key that logs in",
        "certificate": "the key of the certificate that logs in",
        "no key": "the operator's key",
    }
    return words[way.method]


def _or_build(host: Host) -> str:
    return "." if host.way is Way.STANDARD else ". Or build the image again with `nix build .#kexec-tailscale`."


def _usual_file(host_key: str) -> str:
    """Return the file in which the installer's sshd has a host key of this kind; empty if it has none."""
    kind = host_key.partition(" ")[0]
    name = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(kind, "ecdsa" if kind.startswith("ecdsa-sha2-") else "")
    return name and f"/etc/ssh/ssh_host_{name}_key"


def _file_of(host_key: str, facts: Facts) -> str:
    """Return the file of a host key's private half; empty if it is not known."""
    files = facts.host_key_files or ()
    found = [file.path for file in files if file.key == host_key]
    if not found and host_key in facts.tailscale.ssh_host_keys:
        found = [file.path for file in files if _may_be(file, host_key)]
    usual = _usual_file(host_key)
    return usual if usual in found else next(iter(found), "")


def _may_be(file: HostKeyFile, host_key: str) -> bool:
    """Return whether a file whose public half nothing tells may have this key, by its name."""
    return not file.key and bool(host_key) and file.path.rpartition("/")[2] == _usual_file(host_key).rpartition("/")[2]
