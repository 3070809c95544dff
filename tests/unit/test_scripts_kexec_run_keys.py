"""kexec/run: which authorized keys and host keys the installer gets; and that preflight sees the same."""

import os
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from holdfast.facts.facts import Facts, parse_facts
from holdfast.facts.ssh import AuthorizedKey
from tests.unit.kexec_origin import KEY, KINDS, Origin, made_origin
from tests.unit.test_facts import fake_root

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5BBBB"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY"


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    return made_origin(request.param, tmp_path)


def look(origin: Origin, **environment: str) -> Facts:
    """Look at the origin with facts.sh, under the same shell and tools."""
    fake_root(origin.root, {})
    done = subprocess.run(
        [*origin.shell, "-s"],
        input=script("any/facts.sh").encode(),
        capture_output=True,
        env={
            "PATH": f"{origin.tools}:{os.environ['PATH']}",
            "HOLDFAST_ROOT": str(origin.root),
            **environment,
        },
        check=True,
        timeout=120,
    )
    return parse_facts(done.stdout.decode(), "cottage")


def handed(origin: Origin) -> str:
    return (origin.handed_over() / "ssh/authorized_keys").read_text()


def test_authorized_keys_of_root_and_the_sudo_user(origin: Origin) -> None:
    cloud = 'command="echo log in as admin",no-pty ssh-ed25519 AAAAsame cloud\n'
    origin.write("root/.ssh/authorized_keys", "# ssh-ed25519 AAAAgone\n" + cloud)
    origin.write("home/admin/.ssh/authorized_keys", "ssh-ed25519 AAAAsame cloud\nsk-ssh-ed25519@openssh.com AAAAsk t\n")
    origin.write("etc/ssh/authorized_keys.d/admin", "ecdsa-sha2-nistp256 AAAAnix n\n")
    assert origin.run(SUDO_USER="admin")[0] == 0
    # sshd goes by a key's first line: the plain one must come before the one that refuses.
    assert (origin.handed_over() / "ssh/authorized_keys").read_text() == (
        "ssh-ed25519 AAAAsame cloud\nsk-ssh-ed25519@openssh.com AAAAsk t\necdsa-sha2-nistp256 AAAAnix n\n" + cloud
    )


def test_another_users_keys_stay_out(origin: Origin) -> None:
    origin.write("home/admin/.ssh/authorized_keys", "ssh-ed25519 AAAAother o\n")
    assert origin.run()[0] == 0
    assert (origin.handed_over() / "ssh/authorized_keys").read_text() == KEY + "\n"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (f"{ED}\tme\n", f"{ED}\tme\n"),
        (ED.replace(" ", "\t"), ED.replace(" ", "\t") + "\n"),
        (f"\t{ED}\n", f"\t{ED}\n"),
        (f"restrict\t{ED} me", f"restrict\t{ED} me\n"),
        (f'environment="A=b c, d"\t{ED}', f'environment="A=b c, d"\t{ED}\n'),
        (
            "no-touch-required sk-ssh-ed25519@openssh.com\tAAAAsk",
            "no-touch-required sk-ssh-ed25519@openssh.com\tAAAAsk\n",
        ),
        (f"#{ED}\n\t# {ED}\n\n", ""),
    ],
)
def test_blanks_and_tabs_part_the_fields(origin: Origin, file: str, expected: str) -> None:
    origin.write("root/.ssh/authorized_keys", file)
    assert origin.run()[0] == 0
    assert handed(origin) == expected


def test_preflight_sees_what_is_handed_over(origin: Origin) -> None:
    origin.write("home/admin/.ssh/authorized_keys", f"{ED}\tme")
    origin.write("etc/ssh/authorized_keys.d/admin", f'command="a b" {OTHER}\n')
    seen = look(origin, SUDO_USER="admin")
    assert seen.authorized_keys == (
        AuthorizedKey(key=" ".join(KEY.split()[:2])),
        AuthorizedKey(key=ED),
        AuthorizedKey(key=OTHER, options=('command="a b"',)),
    )
    assert origin.run(SUDO_USER="admin")[0] == 0
    assert handed(origin) == f'{KEY}\n{ED}\tme\ncommand="a b" {OTHER}\n'


def test_key_that_logs_in_comes_first(origin: Origin) -> None:
    origin.write("root/.ssh/authorized_keys", f'command="echo no" {ED}\n{OTHER}\n')
    assert origin.run("--login-key", ED)[0] == 0
    assert handed(origin) == f'{ED}\n{OTHER}\ncommand="echo no" {ED}\n'


@pytest.mark.parametrize(
    ("root", "admin", "expected"),
    [
        (f"{ED} a\n{ED} b\n", "", f"{ED} a\n"),
        (f"{ED} a\n", f"{OTHER} o\n{ED} a\n", f"{ED} a\n{OTHER} o\n"),
        (f"{ED} a\n", f"\t{ED}\tb\n", f"{ED} a\n"),
        (f"restrict {ED} a\n", f"restrict {ED} a\n", f"restrict {ED} a\n"),
        # sshd takes the second if the first is for another address.
        (f'from="192.0.2.1" {ED}\n', f'from="192.0.2.2" {ED}\n', f'from="192.0.2.1" {ED}\nfrom="192.0.2.2" {ED}\n'),
        (f"{ECDSA} a\n{ECDSA}X a\n", "", f"{ECDSA} a\n{ECDSA}X a\n"),
    ],
)
def test_each_key_is_handed_over_once(origin: Origin, root: str, admin: str, expected: str) -> None:
    origin.write("root/.ssh/authorized_keys", root)
    origin.write("home/admin/.ssh/authorized_keys", admin)
    assert origin.run(SUDO_USER="admin")[0] == 0
    assert handed(origin) == expected


def test_key_that_logs_in_is_handed_over_once(origin: Origin) -> None:
    origin.write("root/.ssh/authorized_keys", f"{OTHER}\n{ED} me\n")
    assert origin.run("--login-key", ED)[0] == 0
    assert handed(origin) == f"{ED}\n{OTHER}\n"


def test_key_that_logs_in_where_there_is_no_file(origin: Origin) -> None:
    (origin.root / "root/.ssh/authorized_keys").unlink()
    line = "no-touch-required sk-ssh-ed25519@openssh.com AAAAsk+/="
    assert origin.run("--login-key", line)[0] == 0
    assert handed(origin) == f"{line}\n"


SSHD = "etc/ssh/sshd_config"
USUAL = {"etc/ssh/ssh_host_ed25519_key": "usual", "etc/ssh/ssh_host_ed25519_key.pub": OTHER}
KEPT = {"persist/ed": "kept", "persist/ed.pub": f"{ED} root@x"}


@pytest.mark.parametrize(
    ("files", "answered", "expected"),
    [
        ({}, OTHER, {"ed25519": "usual"}),
        (KEPT | {SSHD: "HostKey /persist/ed\n"}, ED, {"ed25519": "kept"}),
        (KEPT | {SSHD: "  hostkey\t=\t/persist/ed"}, ED, {"ed25519": "kept"}),
        (KEPT | {SSHD: 'HOSTKEY "/persist/ed" # mine\r\n'}, ED, {"ed25519": "kept"}),
        (KEPT | {SSHD: "HostKey /persist/ed#mine\n"}, ED, {"ed25519": "kept"}),
        (KEPT | {SSHD: "#HostKey /persist/ed\n"}, OTHER, {"ed25519": "usual"}),
        (KEPT | {SSHD: "HostKeyAgent /persist/ed\n"}, OTHER, {"ed25519": "usual"}),
        (KEPT | {SSHD: "HostKey /persist/gone\n"}, OTHER, {"ed25519": "usual"}),
        (KEPT | {SSHD: "HostKey persist/ed\n"}, OTHER, {"ed25519": "usual"}),
        # Without the flag, what sshd_config says comes first; with it, what answered: that may be Tailscale's server.
        (KEPT | {SSHD: "HostKey /persist/ed\n"}, "", {"ed25519": "kept"}),
        (KEPT | {SSHD: "HostKey /persist/ed\n"}, OTHER, {"ed25519": "usual"}),
        (
            KEPT | {SSHD: "Include sshd_config.d/*.conf\n", f"{SSHD}.d/a.conf": "HostKey /persist/ed"},
            ED,
            {"ed25519": "kept"},
        ),
        (
            KEPT | {SSHD: "Include /etc/a /etc/b\n", "etc/b": "Include /etc/c\n", "etc/c": "HostKey /persist/ed\n"},
            ED,
            {"ed25519": "kept"},
        ),
        # One that includes itself.
        (KEPT | {SSHD: f"Include /{SSHD}\nHostKey /persist/ed\n"}, ED, {"ed25519": "kept"}),
        (
            KEPT | {SSHD: "HostKey /persist/ed\nHostKey /persist/ec\n", "persist/ec": "ec", "persist/ec.pub": ECDSA},
            ECDSA,
            {"ed25519": "kept", "ecdsa": "ec"},
        ),
        # Tailscale's own, of kinds that sshd has not.
        ({"var/lib/tailscale/ssh/ssh_host_ecdsa_key": "ts"}, ECDSA, {"ed25519": "usual", "ecdsa": "ts"}),
        ({"var/lib/tailscale/ssh/ssh_host_ed25519_key": "ts"}, OTHER, {"ed25519": "usual"}),
    ],
)
def test_host_key_that_answered_is_handed_over(
    origin: Origin, files: dict[str, str], answered: str, expected: dict[str, str]
) -> None:
    for name, text in (USUAL | files).items():
        origin.write(name, text)
    before = origin.snapshot()
    assert origin.run(*(["--host-key", answered] if answered else []))[0] == 0
    tree = origin.handed_over() / "ssh"
    found = {path.name[9:-4]: path.read_text() for path in tree.glob("ssh_host_*_key")}
    assert found == expected
    assert all((tree / f"ssh_host_{kind}_key").stat().st_mode & 0o777 == 0o600 for kind in expected)
    if "kept" in found.values():
        assert (tree / "ssh_host_ed25519_key.pub").read_text() == f"{ED} root@x"
    assert origin.snapshot() == before


def test_preflight_sees_the_host_keys(origin: Origin) -> None:
    for name, text in (USUAL | KEPT | {SSHD: "HostKey /persist/ed\n"}).items():
        origin.write(name, text)
    origin.write("var/lib/tailscale/ssh/ssh_host_rsa_key", "ts")
    seen = look(origin).host_key_files
    assert seen is not None
    assert [(file.path, file.key) for file in seen] == [
        ("/persist/ed", ED),
        ("/etc/ssh/ssh_host_ed25519_key", OTHER),
        ("/var/lib/tailscale/ssh/ssh_host_rsa_key", ""),
    ]


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_public_half_is_asked_of_ssh_keygen_where_there_is_no_file(tmp_path: Path, kind: str) -> None:
    origin = made_origin("dash", tmp_path)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
    origin.write(SSHD, "HostKey /persist/host\n")
    origin.write("persist/host", key.read_text())
    seen = look(origin).host_key_files
    assert seen is not None
    assert (seen[0].path, seen[0].key) == ("/persist/host", " ".join(Path(f"{key}.pub").read_text().split()[:2]))
