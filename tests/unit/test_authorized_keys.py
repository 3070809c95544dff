"""authorized_keys as sshd reads it: one parser, and whom its lines let in."""

import pytest

from holdfast.facts.ssh import AuthorizedKey, fingerprint, parse_authorized_key
from holdfast.inventory.host import Way
from holdfast.plan.refusals.clients import lets_in
from tests.unit.cases import LOGIN_KEY

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
SK = "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNh"


@pytest.mark.parametrize(
    ("line", "key", "options"),
    [
        (ED, ED, ()),
        (f"{ED} me@here", ED, ()),
        (ED.replace(" ", "\t"), ED, ()),
        (ED.replace(" ", "\t") + "\tme\there", ED, ()),
        (ED.replace(" ", " \t  "), ED, ()),
        (f" \t{ED}\r", ED, ()),
        (f"{ED} ssh-rsa BBBBBBBBBBBBBBBB", ED, ()),
        (SK, SK, ()),
        (f"no-touch-required {SK}", SK, ("no-touch-required",)),
        (f"no-touch-required\t{SK}\tyubikey", SK, ("no-touch-required",)),
        (f"restrict,pty {ED} me", ED, ("restrict", "pty")),
        (f'command="echo a, b" {ED}', ED, ('command="echo a, b"',)),
        (f'from="192.0.2.1,10.0.0.0/8",no-pty\t{ED}', ED, ('from="192.0.2.1,10.0.0.0/8"', "no-pty")),
        (f'command="echo \\"{LOGIN_KEY} x\\" y" {ED}', ED, (f'command="echo \\"{LOGIN_KEY} x\\" y"',)),
        (f'command="{LOGIN_KEY}",restrict {ED}', ED, (f'command="{LOGIN_KEY}"', "restrict")),
        (f"cert-authority {ED} ca", ED, ("cert-authority",)),
    ],
)
def test_line(line: str, key: str, options: tuple[str, ...]) -> None:
    read = parse_authorized_key(line)
    assert read is not None
    assert (read.key, read.options) == (key, options)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " \t",
        f"# {ED}",
        f"\t#{ED}",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 ****",
        "ssh-ed25519\u00a0AAAAC3NzaC1lZDI1NTE5AAAA",
        f'command="echo {ED}',  # the quotes never end
        f'command="a b"{ED}',
        f"no-pty,\t\tno-such {ED.split()[1]}",
    ],
)
def test_what_has_no_key(line: str) -> None:
    assert parse_authorized_key(line) is None


@pytest.mark.parametrize(
    ("lines", "way", "let_in"),
    [
        ([LOGIN_KEY], Way.TAILSCALE, True),
        ([], Way.TAILSCALE, False),
        ([ED], Way.TAILSCALE, False),
        ([f'restrict,no-touch-required,permitopen="x:1" {LOGIN_KEY}'], Way.TAILSCALE, True),
        ([f'Command="echo no" {LOGIN_KEY}'], Way.TAILSCALE, False),
        ([f"cert-authority {LOGIN_KEY}"], Way.TAILSCALE, False),
        ([f"cert-authority {LOGIN_KEY}", LOGIN_KEY], Way.TAILSCALE, True),
        # The first line that fits counts.
        ([f'command="echo no" {LOGIN_KEY}', LOGIN_KEY], Way.TAILSCALE, False),
        ([LOGIN_KEY, f'command="echo no" {LOGIN_KEY}'], Way.TAILSCALE, True),
        ([f'from="192.0.2.0/24",command="echo no" {LOGIN_KEY}', LOGIN_KEY], Way.TAILSCALE, True),
        ([f'from="192.0.2.0/24" {LOGIN_KEY}'], Way.TAILSCALE, False),
        ([f'from="192.0.2.0/24" {LOGIN_KEY}'], Way.STANDARD, True),
        ([f'from="100.64.0.7" {LOGIN_KEY}'], Way.TAILSCALE, True),
        ([f'from="!100.64.0.0/10,*" {LOGIN_KEY}'], Way.TAILSCALE, False),
        ([f'expiry-time="20200229" {LOGIN_KEY}'], Way.TAILSCALE, False),
        ([f'expiry-time="202002291200Z" {LOGIN_KEY}', LOGIN_KEY], Way.TAILSCALE, True),
        ([f'expiry-time="20991231" {LOGIN_KEY}'], Way.TAILSCALE, True),
    ],
)
def test_whom_lines_let_in(lines: list[str], way: Way, let_in: bool) -> None:
    read = [key for line in lines if (key := parse_authorized_key(line))]
    assert lets_in(read, LOGIN_KEY, way) is let_in


def test_whether_a_blank_follows_the_type() -> None:
    """The stock image looks for one."""
    lines = [ED, ED.replace(" ", "\t"), f"no-pty\t{ED}"]
    assert [key.has_blank for line in lines if (key := parse_authorized_key(line))] == [True, False, True]


def test_fingerprint_is_that_of_ssh_keygen() -> None:
    assert fingerprint(LOGIN_KEY) == "ssh-ed25519 SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk"
    assert fingerprint("ssh-ed25519 AAAAA") == "ssh-ed25519"
    assert AuthorizedKey(key=LOGIN_KEY).option("from") is None
