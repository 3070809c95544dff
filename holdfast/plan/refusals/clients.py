"""Whom sshd lets in: the lists of users and groups in sshd_config(5), and the address that Holdfast comes from."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from holdfast.base import clock
from holdfast.facts.identity import TAILNET, is_of_tailnet
from holdfast.facts.ssh import AuthorizedKey
from holdfast.inventory.host import Way
from holdfast.plan.configuration import Configuration

# How the addresses of TAILNET begin, for patterns.
_TAILNET_BEGINS: Final = ("100.", "fd7a:115c:a1e0:")


def kept_out_by(seen: Configuration, user: str, way: Way) -> str:
    """Return the setting that keeps a user out, as sshd reads it; empty if none does.

    Where an entry names an address (`USER@ADDRESS`), one that only some connections of the way come from counts for
    the user.
    """
    groups = seen.users[user].groups if user in seen.users else (user,) if user == "root" else ()
    use_dns = seen.ssh_setting("UseDns")[:1] == ("yes",)

    def named(entry: str, *, surely: bool) -> bool:
        # OpenSSH's match.c: the user's part knows no negation, the address' part is a list that does.
        name, at, addresses = entry.partition("@")
        if not matches(name, user):
            return False
        return not at or _comes_from(addresses, way, use_dns=use_dns, surely=surely)

    # OpenSSH's auth.c, allowed_user: in this order.
    denied, allowed = seen.ssh_setting("DenyUsers"), seen.ssh_setting("AllowUsers")
    if any(named(entry, surely=True) for entry in denied):
        return f"DenyUsers {' '.join(denied)}"
    if allowed and not any(named(entry, surely=False) for entry in allowed):
        return f"AllowUsers {' '.join(allowed)}"
    denied, allowed = seen.ssh_setting("DenyGroups"), seen.ssh_setting("AllowGroups")
    if any(matches(entry, group) for entry in denied for group in groups):
        return f"DenyGroups {' '.join(denied)}"
    if allowed and not any(matches(entry, group) for entry in allowed for group in groups):
        return f"AllowGroups {' '.join(allowed)}"
    return ""


def match_lets_root_in(seen: Configuration, way: Way) -> bool:
    """Return whether a Match block permits root's login for connections of the way (sshd_config(5), Match).

    Of its criteria, users and addresses are looked at. A setting counts from the first block that has it.
    """
    applies = False
    for line in seen.ssh_extra:
        key, *words = line.split("#")[0].replace("=", " ").split() or [""]
        if key.lower() == "match":
            criteria = {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=False)}
            users = criteria.get("user", "*").split(",")
            named = any(matches(user, "root") for user in users) and "!root" not in users
            applies = named and _comes_from(criteria.get("address", "*"), way, use_dns=False, surely=False)
        elif applies and key.lower() == "permitrootlogin":
            return words[:1] not in (["no"], ["forced-commands-only"])
    return False


def lets_in(lines: Iterable[AuthorizedKey], key: str, way: Way, *, use_dns: bool = False) -> bool:
    """Return whether lines of authorized_keys let a key in from the way's addresses, with commands of its own choice.

    sshd passes over a line whose address or date does not fit, and goes by the first one that is left
    (auth_authorise_keyopts in OpenSSH's auth2-pubkeyfile.c).
    """
    for line in lines:
        if line.key != key or line.option("cert-authority") is not None:
            continue
        from_ = line.option("from")
        if from_ is not None and not _comes_from(from_, way, use_dns=use_dns, surely=False):
            continue
        if not _has_passed(line.option("expiry-time")):
            return line.option("command") is None
    return False


def _has_passed(expiry: str | None) -> bool:
    """Return whether a date of `expiry-time` has passed: YYYYMMDD, with or without a time behind it."""
    digits = re.match(r"\d{8}", expiry or "")
    # The time zone of the machine is not known: a day counts as a whole.
    return digits is not None and digits[0] < f"{clock.utc():%Y%m%d}"


def matches(pattern: str, text: str) -> bool:
    """Return whether a pattern with `*` and `?` matches (OpenSSH's match.c, match_pattern)."""
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.sub(r"\*+", "*", pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def listens(seen: Configuration, port: int, way: Way, target: str) -> bool:
    """Return whether sshd listens on a port where Holdfast connects to."""
    if not seen.ssh_listen:
        return port in seen.ssh_ports
    inside = way is Way.TAILSCALE and seen.tailscale_interface == "userspace-networking"
    for listen in seen.ssh_listen:
        ports = seen.ssh_ports if listen.port is None else (listen.port,)
        if port in ports and _reaches(listen.address or "", way, target, inside=inside):
            return True
    return False


def _reaches(address: str, way: Way, target: str, *, inside: bool) -> bool:
    """Return whether an address that sshd listens on is one that Holdfast may connect to.

    Args:
        address: the address, or a name.
        way: the way of the install.
        target: the inventory's address.
        inside: whether connections come from tailscaled itself, on the machine's own address.

    """
    bare = address.strip("[]").split("%")[0]
    if bare in ("", "*", target):
        return True
    try:
        listening = ipaddress.ip_address(bare)
    except ValueError:
        return bare != "localhost" or inside
    if listening.is_unspecified:
        return True
    if listening.is_loopback:
        return inside
    return is_of_tailnet(listening) == (way is Way.TAILSCALE)


def _comes_from(addresses: str, way: Way, *, use_dns: bool, surely: bool) -> bool:
    """Return whether a connection of the way comes from one of these addresses: surely, or possibly.

    Args:
        addresses: a list with `,`, of addresses, networks and patterns, each negated by `!`.
        way: the way; the address that the standard way comes from is not known.
        use_dns: whether sshd compares host names, too, which are not known.
        surely: True asks whether every connection does, False whether any may.

    """
    entries = [entry for entry in addresses.split(",") if entry]
    wanted = [entry for entry in entries if not entry.startswith("!")]
    unwanted = [entry[1:] for entry in entries if entry.startswith("!")]
    # What surely fits covers all addresses of the way, and what is surely left out covers none of the others.
    return any(_overlap(entry, way, use_dns=use_dns, whole=surely) for entry in wanted) and not any(
        _overlap(entry, way, use_dns=use_dns, whole=not surely) for entry in unwanted
    )


def _overlap(entry: str, way: Way, *, use_dns: bool, whole: bool) -> bool:
    """Return whether an entry covers all addresses of the way (`whole`), or any of them."""
    if not entry.strip("*"):
        return True
    if way is not Way.TAILSCALE:
        return not whole
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return _pattern_overlaps(entry.lower(), use_dns=use_dns, whole=whole)
    for other in TAILNET:
        if network.version == other.version and network.overlaps(other):
            # By IPv4 every node of a tailnet is reached, unless its policy says otherwise.
            return not whole or (other.version == 4 and network.prefixlen <= other.prefixlen)
    return False


def _pattern_overlaps(pattern: str, *, use_dns: bool, whole: bool) -> bool:
    begins = re.split(r"[*?]", pattern)[0]
    if begins == pattern or not re.fullmatch(r"[0-9a-f.:]*", begins):
        return use_dns and not whole
    if whole:
        return any(address.startswith(begins) for address in _TAILNET_BEGINS) and pattern == f"{begins}*"
    return any(address.startswith(begins) or begins.startswith(address) for address in _TAILNET_BEGINS)
