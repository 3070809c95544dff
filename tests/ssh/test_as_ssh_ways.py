"""More configs beside the real client: networks, servers that take little, conditions, and jump hosts."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.as_ssh import USER, Case, World, compare, made_world, sign
from tests.ssh.sshd import Sshd, agent_with, make_key, public

RIGHT = "IdentityFile {keys}/right\n"
KNOWN = RIGHT + "UserKnownHostsFile {folder}/known\n"
GATE = "Host gate\n HostKeyAlias gate\n"
ALIAS = KNOWN + "HostKeyAlias cottage.example\n"
AUTHORITY = "@cert-authority *.example {hostca}"

NETWORK = [
    Case("BindAddress", RIGHT + "BindAddress 127.0.0.2\nPort {from}"),
    Case("from another address than the server wants", RIGHT + "Port {from}", ssh=False, says="tried"),
    Case("AddressFamily inet", RIGHT + "AddressFamily inet"),
    Case("an address of the other family", RIGHT + "AddressFamily inet6", ssh=False, says="cannot be resolved"),
    Case("an IPv6 address", KNOWN + "HostName ::1\nPort {six}", known="[::1]:{six} {hostkey}"),
]
SERVERS = [
    Case(
        "one attempt a connection",
        "Port {once}\nIdentityFile none",
        {"SSH_AUTH_SOCK": "{three}"},
        ssh=False,
        better=True,
    ),
    Case("only curve25519-sha256", RIGHT + "Port {curve}"),
    Case("only MACs over the encrypted text", RIGHT + "Port {etm}"),
    Case("only an RSA host key", KNOWN + "Port {rsahost}", known="127.0.0.1 {rsahostkey}"),
    Case("the second of two host keys is known", KNOWN + "Port {twokeys}", known="[127.0.0.1]:{twokeys} {rsahostkey}"),
    Case(
        "HostKeyAlgorithms chooses the right one of two",
        KNOWN + "Port {twokeys}\nHostKeyAlgorithms rsa-sha2-512",
        known="127.0.0.1 {rsahostkey}\n127.0.0.1 {wronghostkey}",
    ),
    Case("HostKeyAlgorithms without the server's", RIGHT + "HostKeyAlgorithms rsa-sha2-512", ssh=False, says="common"),
]
HOSTS = [
    Case("RevokedHostKeys", RIGHT + "RevokedHostKeys {keys}/revoked", ssh=False, says="RevokedHostKeys .* revokes"),
    Case("RevokedHostKeys with another key", RIGHT + "RevokedHostKeys {keys}/revokedothers"),
    Case("RevokedHostKeys, a KRL", RIGHT + "RevokedHostKeys {keys}/krl", ssh=False, says="RevokedHostKeys"),
    Case("RevokedHostKeys that is not there", RIGHT + "RevokedHostKeys {keys}/none", ssh=False, says="cannot be read"),
    Case(
        "RevokedHostKeys with the authority",
        ALIAS + "Port {namedhost}\nRevokedHostKeys {keys}/revokedca",
        known=AUTHORITY,
        ssh=False,
        says="RevokedHostKeys",
    ),
    Case("a known_hosts that is a folder", RIGHT + "GlobalKnownHostsFile {folder}"),
    Case("a known_hosts below a file", RIGHT + "GlobalKnownHostsFile /dev/null/known"),
    Case(
        "another key for name and port, in the second file",
        RIGHT + "UserKnownHostsFile {folder}/known {keys}/otherwithport",
        known="127.0.0.1 {hostkey}",
        ssh=False,
        says="expected",
    ),
    Case("CheckHostIP", KNOWN + "CheckHostIP yes\nHostName localhost", known="localhost {hostkey}"),
    Case("no files at all", RIGHT + "UserKnownHostsFile none\nGlobalKnownHostsFile none", ssh=False, says="unknown"),
    Case("tabs and a carriage return", KNOWN, known="\t127.0.0.1\t{hostkey}\tme\r"),
    Case("a certificate of an RSA host key", ALIAS + "Port {rsacert}", known=AUTHORITY),
    Case("a certificate of an ECDSA host key", ALIAS + "Port {ecdsacert}", known=AUTHORITY),
    Case("a certificate for all names", ALIAS + "Port {allnames}", known=AUTHORITY),
]
KEYS = [
    Case("a user's RSA certificate", "IdentityFile {keys}/crsa"),
    Case("a user's ECDSA certificate", "IdentityFile {keys}/cecdsa"),
    Case("CertificateFile with tokens", "IdentityFile {keys}/certified\nCertificateFile {certs}/%n-cert.pub"),
    Case(
        "two certificates, the expired one first",
        "IdentityFile {keys}/certified\n"
        "CertificateFile {certs}/expired-cert.pub\nCertificateFile {certs}/certified-cert.pub",
    ),
    Case("blanks and tokens in one path", 'IdentityFile "{folder}/%n my key"', copies={"right": "cottage my key"}),
    Case("tokens of this machine", "IdentityFile {folder}/%L-%l-%i-%u", copies={"right": "{localname}"}),
    Case("a locked agent before the file", RIGHT, {"SSH_AUTH_SOCK": "{lockedagent}"}),
    Case("a large curve", "Port {more}\nIdentityFile {keys}/p521"),
    Case("PKCS#8", "Port {more}\nIdentityFile {keys}/pkcs8"),
    Case("IdentityFile that is a folder", "IdentityFile {keys}\n" + RIGHT),
]
CONDITIONS = [
    Case("Match host", "Host cottage\n HostName 127.0.0.1\nMatch host 127.0.0.*\n IdentityFile {keys}/right"),
    Case("Match user", f"User {USER}\nMatch user {USER}\n IdentityFile {{keys}}/right"),
    Case("Match final", "Match final host 127.0.0.1\n IdentityFile {keys}/right"),
    Case(
        "Match with a negation",
        'Match !originalhost barn exec "test %n = cottage"\n IdentityFile {keys}/right',
    ),
    Case("Include of a pattern", "Include {keys}/conf.d/*.conf"),
    Case("Include with blanks", 'Include "{keys}/conf d/*.conf"'),
    Case("equals signs and quotes", 'IdentityFile={keys}/right\nUser = "' + USER + '"'),
]
JUMPS = [
    Case(
        "a jump with its own port and key",
        RIGHT + f"ProxyJump gate\n{GATE} Port {{onlyrsa}}\n IdentityFile {{keys}}/rsa",
    ),
    Case("a jump with its own agent", RIGHT + f"ProxyJump gate\n{GATE} IdentityFile none\n IdentityAgent {{right}}"),
    Case(
        "a jump as a URI", RIGHT + f"ProxyJump ssh://{USER}@gate:{{port}}\n{GATE} Port 1\n IdentityFile {{keys}}/right"
    ),
    Case(
        "a jump with a ProxyCommand",
        RIGHT + f"ProxyJump gate\n{GATE} ProxyCommand {{pipe}} %h %p\n IdentityFile {{keys}}/right",
    ),
    Case(
        "a jump that jumps",
        RIGHT + f"ProxyJump gate\n{GATE} ProxyJump yard\n IdentityFile {{keys}}/right\n"
        "Host yard\n HostKeyAlias yard\n IdentityFile {keys}/rsa",
    ),
    Case(
        "a jump with a token in its name", RIGHT + "ProxyJump %n-gate\nHost cottage-gate\n HostKeyAlias gate\n" + RIGHT
    ),
    Case("three jumps", RIGHT + "ProxyJump gate,barn,yard\nHost gate barn yard\n" + RIGHT),
    Case(
        "ProxyJump none before a general one",
        "Host cottage\n ProxyJump none\n" + RIGHT + "Host *\n ProxyJump gone.invalid",
    ),
    Case("the first of ProxyCommand and ProxyJump", RIGHT + "ProxyCommand {pipe} %h %p\nProxyJump gone.invalid"),
    Case(
        "ssh -W as ProxyCommand",
        RIGHT + f"ProxyCommand ssh -F {{folder}}/config -W %h:%p gate\n{GATE} IdentityFile {{keys}}/right",
    ),
    Case(
        "percent signs in ProxyCommand",
        RIGHT + 'ProxyCommand sh -c \'test "$0" = "100%%n %n" && exec {pipe} %h %p\' "100%%n cottage"',
    ),
    Case("ProxyCommand for the user's shell", RIGHT + "ProxyCommand {pipe} $'%h' %p", {"SHELL": "/bin/bash"}),
]
CASES = [*NETWORK, *SERVERS, *HOSTS, *KEYS, *CONDITIONS, *JUMPS]


def _make_keys(keys: Path, certs: Path) -> None:
    for name, kind in (("crsa", "rsa"), ("cecdsa", "ecdsa"), ("rsahost", "rsa"), ("ecdsahost", "ecdsa")):
        make_key(keys / name, kind)
    for name in ("crsa", "cecdsa"):
        sign(keys / "ca", keys / name, certs / f"{name}.pub", "-n", USER)
        shutil.copy(certs / f"{name}-cert.pub", keys / f"{name}-cert.pub")
    for name, options in (("p521", ("ecdsa", "-b", "521")), ("pkcs8", ("rsa", "-m", "PKCS8"))):
        subprocess.run(["ssh-keygen", "-q", "-t", *options, "-N", "", "-f", str(keys / name)], check=True)
    shutil.copy(certs / "certified-cert.pub", certs / "cottage-cert.pub")
    for folder in ("conf.d", "conf d"):
        (keys / folder).mkdir()
        (keys / folder / "10-cottage.conf").write_text(f"Host cottage\n IdentityFile {keys}/right\n")
        (keys / folder / "20-all.conf").write_text(f"Host *\n IdentityFile {keys}/wrong1\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("w")
    with made_world(folder) as made, contextlib.ExitStack() as stack:
        keys, certs, words = folder / "keys", folder / "certs", made.words
        _make_keys(keys, certs)
        same = folder / "sshd-main" / "host_key"

        def server(name: str, *settings: str, host_key: Path = same, client: str = "right") -> None:
            place = folder / f"sshd-{name}"
            place.mkdir(mode=0o755)
            sshd = Sshd(place, keys / client, settings=settings)
            shutil.copy(host_key, sshd.host_key)
            shutil.copy(host_key.with_suffix(".pub"), sshd.host_key.with_suffix(".pub"))
            sshd.start()
            stack.callback(sshd.stop)
            words[name] = str(sshd.port)

        def certified(name: str, key: Path, *options: str) -> None:
            sign(keys / "hostca", key, folder / f"{name}.pub", "-h", *options)
            server(name, f"HostCertificate {folder}/{name}-cert.pub", host_key=key)

        right = public(keys / "right")
        (folder / "from").write_text(f'from="127.0.0.2" {right}\n')
        (folder / "more").write_text(f"{public(keys / 'p521')}\n{public(keys / 'pkcs8')}\n")
        server("from", f"AuthorizedKeysFile {folder}/from")
        server("more", f"AuthorizedKeysFile {folder}/more")
        server("six", "ListenAddress ::1")
        server("once", "MaxAuthTries 1")
        server("curve", "KexAlgorithms curve25519-sha256")
        server("etm", "MACs hmac-sha2-256-etm@openssh.com", "Ciphers aes256-ctr")
        server("rsahost", host_key=keys / "rsahost")
        server("twokeys", f"HostKey {keys}/rsahost")
        server("onlyrsa", client="rsa")
        certified("namedhost", same, "-n", "cottage.example")
        certified("rsacert", keys / "rsahost", "-n", "cottage.example")
        certified("ecdsacert", keys / "ecdsahost", "-n", "cottage.example")
        certified("allnames", same)

        (keys / "revoked").write_text(f"{public(same)}\n")
        (keys / "revokedca").write_text(f"{public(keys / 'hostca')}\n")
        (keys / "revokedothers").write_text(f"{public(keys / 'wronghost')}\n")
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(keys / "krl"), f"{same}.pub"], check=True)
        (keys / "otherwithport").write_text(f"[127.0.0.1]:{words['port']} {public(keys / 'wronghost')}\n")
        pipe = folder / "pipe"
        pipe.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/pipe.py "$@"\n')
        pipe.chmod(0o755)
        stack.enter_context(agent_with(folder / "a" / "locked", keys / "wrong2"))
        ours = socket.gethostname()
        words |= {
            "pipe": str(pipe),
            "rsahostkey": public(keys / "rsahost"),
            "localname": f"{ours.split('.')[0]}-{ours}-{os.getuid()}-{USER}",
            "lockedagent": str(folder / "a" / "locked"),
        }
        asks = folder / "asks"
        asks.write_text("#!/bin/sh\necho secret\n")
        asks.chmod(0o755)
        asked = {"SSH_ASKPASS": str(asks), "SSH_ASKPASS_REQUIRE": "force", "SSH_AUTH_SOCK": words["lockedagent"]}
        subprocess.run(["ssh-add", "-x"], env=os.environ | asked, check=True, capture_output=True)
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_ssh(case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(case, world, tmp_path, monkeypatch)
