"""Whoever gets in with `ssh cottage` gets in with Holdfast: the same config beside the real client.

Real sshds on loopback and real agents. A case says what `ssh` does; Holdfast must do the same, or better.
"""

import contextlib
import getpass
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.base.errors import HoldfastError
from holdfast.base.settings import Settings
from holdfast.inventory.host import Host
from holdfast.ssh.connection import open_connection
from holdfast.ssh.openssh import write_ssh_config
from holdfast.ssh.resolve import endpoint_for
from tests.ssh.sshd import Sshd, agent_with, make_key, public
from tests.ssh.test_reach import PIPE

T = 20
USER = getpass.getuser()


@dataclass(frozen=True)
class Case:
    """A config for `cottage`, and what comes of it.

    Attributes:
        name: what it is about.
        config: lines before those of BASE; `{word}` as in World.words.
        env: variables, beside SSH_AUTH_SOCK, which is not set otherwise.
        ssh: whether the real client gets in.
        better: whether Holdfast gets in where the real client does not.
        says: a part of Holdfast's error.
        copies: files of the world under other names in the case's own folder.
        known: what is in {folder}/known.
        base: the lines after `config`; see BASE.

    """

    name: str
    config: str
    env: dict[str, str] = field(default_factory=dict)
    ssh: bool = True
    better: bool = False
    says: str = ""
    copies: dict[str, str] = field(default_factory=dict)
    known: str = ""
    base: str = ""


BASE = f"""
Host *
  HostName 127.0.0.1
  Port {{port}}
  User {USER}
  UserKnownHostsFile {{keys}}/known
  StrictHostKeyChecking yes
"""
# Without any key but those of the case.
NO_FILE = "IdentityFile none\n"
ONLY_AUTHORITY = "UserKnownHostsFile {folder}/known\nIdentityFile {keys}/right\n"

KEYS = [
    Case("an ed25519 key", "IdentityFile {keys}/right"),
    Case("an ecdsa key", "IdentityFile {keys}/ecdsa"),
    Case("an RSA key", "IdentityFile {keys}/rsa"),
    Case("an RSA key in PEM", "IdentityFile {keys}/pem"),
    Case("a path with blanks", 'IdentityFile "{folder}/my own key"', copies={"right": "my own key"}),
    Case("a path with the name that was asked for", "IdentityFile {folder}/id_%n", copies={"right": "id_cottage"}),
    Case("a path with the address", "IdentityFile {folder}/%h", copies={"right": "127.0.0.1"}),
    Case("a path with user and port", "IdentityFile {folder}/%r-%p", copies={"right": f"{USER}-{{port}}"}),
    Case("a path with a percent sign", "IdentityFile {folder}/100%%", copies={"right": "100%"}),
    Case("a path with a variable", "IdentityFile ${{WHERE}}/right", {"WHERE": "{keys}"}),
    Case("a stale key before the right one", "IdentityFile {keys}/wrong0\nIdentityFile {keys}/right"),
    Case("a file that is not there before the right one", "IdentityFile {keys}/none\nIdentityFile {keys}/right"),
    Case("a key that the server does not know", "IdentityFile {keys}/wrong0", ssh=False, says="tried .*wrong0"),
    Case("a key with a passphrase", "IdentityFile {keys}/locked", ssh=False, says="locked .has a passphrase: load it"),
    Case("a PEM with a passphrase", "IdentityFile {keys}/lockedpem", ssh=False, says="has a passphrase"),
    Case("a passphrase, and the agent has it", "IdentityFile {keys}/locked", {"SSH_AUTH_SOCK": "{unlocked}"}),
    Case("RSA with the older of the two hashes", "IdentityFile {keys}/rsa\nPubkeyAcceptedAlgorithms rsa-sha2-256"),
    Case(
        "an algorithm that the config leaves out",
        "IdentityFile {keys}/right\nPubkeyAcceptedAlgorithms rsa-sha2-512",
        ssh=False,
        says="PubkeyAcceptedAlgorithms leaves it out",
    ),
    Case("a server that wants SHA-1", "IdentityFile {keys}/rsa\nPort {sha1}", ssh=False, says="tried .*rsa"),
    Case("a server that wants two keys", "IdentityFile {keys}/right\nIdentityFile {keys}/rsa\nPort {both}"),
    Case("only one of two keys", "IdentityFile {keys}/right\nPort {both}", ssh=False, says="after .*right it also"),
]
AGENTS = [
    Case("the environment's agent", NO_FILE, {"SSH_AUTH_SOCK": "{right}"}),
    Case("IdentityAgent, as 1Password sets it", NO_FILE + 'IdentityAgent "{blanks}"'),
    Case("IdentityAgent wins over the environment", NO_FILE + "IdentityAgent {right}", {"SSH_AUTH_SOCK": "{wrong}"}),
    Case("IdentityAgent none", NO_FILE + "IdentityAgent none", {"SSH_AUTH_SOCK": "{right}"}, ssh=False, says="no key"),
    Case("IdentityAgent SSH_AUTH_SOCK", NO_FILE + "IdentityAgent SSH_AUTH_SOCK", {"SSH_AUTH_SOCK": "{right}"}),
    Case("IdentityAgent $VARIABLE", NO_FILE + "IdentityAgent $GPG", {"GPG": "{right}", "SSH_AUTH_SOCK": "{wrong}"}),
    Case("a $VARIABLE that is not set", NO_FILE + "IdentityAgent $GPG", {"SSH_AUTH_SOCK": "{right}"}, ssh=False),
    Case("IdentityAgent ${VARIABLE} in a path", NO_FILE + "IdentityAgent ${{RUN}}/right", {"RUN": "{agents}"}),
    Case("a link to the agent's socket", NO_FILE + "IdentityAgent {linked}"),
    Case(
        "IdentityAgent for one host only",
        f"Host barn\n IdentityAgent {{wrong}}\nHost cottage\n {NO_FILE} IdentityAgent {{right}}",
    ),
    Case(
        "a public key chooses one of seven",
        "IdentityFile {keys}/right.pub\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{seven}"},
    ),
    Case(
        "a public key chooses one of seven, where two may be tried",
        "IdentityFile {keys}/right.pub\nPort {strict}\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{seven}"},
    ),
    Case(
        "of the key only the public half is here",
        "IdentityFile {folder}/work\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{seven}"},
        copies={"right.pub": "work.pub"},
    ),
    Case("a public key without an agent", "IdentityFile {keys}/right.pub", ssh=False, says="only a public key"),
    Case(
        "IdentitiesOnly keeps the agent's others out",
        "IdentityFile {keys}/wrong0\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{right}"},
        ssh=False,
        says="tried .*wrong0",
    ),
    Case("a key first that nobody confirms", NO_FILE, {"SSH_AUTH_SOCK": "{unconfirmed}"}),
    Case(
        "a key that nobody confirms, and no other",
        "IdentityFile {keys}/confirm.pub\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{unconfirmed}"},
        ssh=False,
        says="welcome, but the agent refuses to sign",
    ),
    Case("more keys than the server allows", NO_FILE, {"SSH_AUTH_SOCK": "{seven}"}, ssh=False, better=True),
    Case(
        "two attempts, and the right key is the third",
        NO_FILE + "Port {strict}",
        {"SSH_AUTH_SOCK": "{three}"},
        ssh=False,
        better=True,
    ),
    Case(
        "stale files, and the agent's key comes first",
        "IdentityFile {keys}/wrong0\nIdentityFile {keys}/wrong1\nIdentityFile {keys}/wrong2\nPort {strict}",
        {"SSH_AUTH_SOCK": "{right}"},
    ),
    Case("an agent that is gone", "IdentityFile {keys}/right", {"SSH_AUTH_SOCK": "{folder}/gone"}),
    Case(
        "an agent that is gone, and no file",
        NO_FILE,
        {"SSH_AUTH_SOCK": "{folder}/gone"},
        ssh=False,
        says="agent .*gone .No such",
    ),
]
CERTIFICATES = [
    Case("CertificateFile", "IdentityFile {keys}/certified\nCertificateFile {certs}/certified-cert.pub"),
    Case("a certificate beside the key", "IdentityFile {certs}/beside"),
    Case(
        "a certificate whose key is in the agent",
        "CertificateFile {certs}/certified-cert.pub\nIdentityFile {keys}/certified.pub\nIdentitiesOnly yes",
        {"SSH_AUTH_SOCK": "{certified}"},
    ),
    Case("a certificate in the agent", NO_FILE, {"SSH_AUTH_SOCK": "{withcert}"}),
    Case(
        "a certificate that has expired",
        "IdentityFile {keys}/certified\nCertificateFile {certs}/expired-cert.pub",
        ssh=False,
        says="tried",
    ),
    Case("a key without its certificate", "IdentityFile {keys}/certified", ssh=False, says="tried"),
]
WAYS = [
    Case("port and user of the config", "IdentityFile {keys}/right"),
    Case(
        "a ProxyCommand with the name, the address and the port",
        "IdentityFile {keys}/right\nProxyCommand {way} %n %h %p %r",
    ),
    Case(
        "a ProxyCommand with quotes",
        """IdentityFile {keys}/right\nProxyCommand sh -c 'exec "{way}" "$@"' way %n %h %p %r""",
    ),
    Case(
        "ProxyJump",
        "IdentityFile {keys}/right\nProxyJump gate\nHost gate\n HostKeyAlias gate\n IdentityFile {keys}/right",
    ),
    Case(
        "ProxyJump with user and port",
        f"IdentityFile {{keys}}/right\nProxyJump {USER}@gate:{{port}}\n"
        "Host gate\n HostKeyAlias gate\n Port 1\n User nobody\n IdentityFile {keys}/right",
    ),
    Case("two jumps", "Match originalhost cottage\n ProxyJump gate,yard\nMatch all\n IdentityFile {keys}/right"),
    Case("Include", "Include {keys}/included"),
    Case("Match exec", 'Match exec "test %n = cottage"\n IdentityFile {keys}/right'),
    Case(
        "a pattern with an exception",
        "Host c* !cottage\n IdentityFile {keys}/wrong0\nHost co?tage\n IdentityFile {keys}/right",
    ),
    Case(
        "names are not looked at for their case",
        "IdentityFile {keys}/right\nUserKnownHostsFile {folder}/known\nHostKeyAlias HoMe",
        known="home {hostkey}",
    ),
]
KNOWN = "IdentityFile {keys}/right\nUserKnownHostsFile {folder}/known\n"
HOSTS = [
    Case("known by name and port", KNOWN, known="[127.0.0.1]:{port} {hostkey}"),
    Case("known by the bare name", KNOWN, known="127.0.0.1 {hostkey}"),
    Case("known by a pattern", KNOWN, known="127.0.0.?,barn {hostkey}"),
    Case("known under an alias", KNOWN + "HostKeyAlias home", known="home {hostkey}\n127.0.0.1 {wronghostkey}"),
    Case(
        "known in the system's file",
        "IdentityFile {keys}/right\nUserKnownHostsFile none\nGlobalKnownHostsFile {folder}/known",
        known="127.0.0.1 {hostkey}",
    ),
    Case(
        "known in the second file",
        "IdentityFile {keys}/right\nUserKnownHostsFile {folder}/none {folder}/known",
        known="127.0.0.1 {hostkey}",
    ),
    Case(
        "known in a file with blanks",
        'IdentityFile {keys}/right\nUserKnownHostsFile {folder}/none "{folder}/k n o"',
        copies={"known": "k n o"},
    ),
    Case(
        "known in a file of its own",
        "IdentityFile {keys}/right\nHostKeyAlias home\nUserKnownHostsFile {folder}/%k",
        copies={"known": "home"},
        known="home {hostkey}",
    ),
    Case("known by its hash", "IdentityFile {keys}/right\nUserKnownHostsFile {keys}/hashed"),
    Case("known with another key", KNOWN, known="127.0.0.1 {wronghostkey}", ssh=False, says="expected ssh-ed25519"),
    Case("not known", KNOWN, known="barn {hostkey}", ssh=False, says="which is unknown here"),
    Case("all but this one", KNOWN, known="*,!127.0.0.1,!*:{port} {hostkey}", ssh=False, says="which is unknown here"),
    Case("revoked", KNOWN, known="127.0.0.1 {hostkey}\n@revoked * {hostkey}", ssh=False, says="line 2 revokes"),
    Case("an authority", ONLY_AUTHORITY + "Port {certifiedhost}", known="@cert-authority *,[127.0.0.1]:* {hostca}"),
    Case(
        "an authority and an alias",
        ONLY_AUTHORITY + "Port {certifiedhost}\nHostKeyAlias cottage.example",
        known="@cert-authority *.example {hostca}",
    ),
    Case(
        "an authority, and the certificate is for others",
        ONLY_AUTHORITY + "Port {certifiedhost}\nHostKeyAlias barn.example",
        known="@cert-authority *.example {hostca}",
        ssh=False,
        says="is for cottage.example, 127.0.0.1, not for barn.example",
    ),
    Case(
        "another authority",
        ONLY_AUTHORITY + "Port {certifiedhost}",
        known="@cert-authority * {wronghostkey}",
        ssh=False,
        says="another authority signed",
    ),
    Case(
        "an authority, and the server has no certificate",
        ONLY_AUTHORITY,
        known="@cert-authority * {hostca}",
        ssh=False,
        says="it shows no certificate",
    ),
    Case(
        "an authority, and a key that is known beside it",
        ONLY_AUTHORITY,
        known="@cert-authority * {hostca}\n127.0.0.1 {hostkey}",
    ),
    Case(
        "a certificate that has expired",
        ONLY_AUTHORITY + "Port {expiredhost}",
        known="@cert-authority * {hostca}",
        ssh=False,
        says="has expired",
    ),
    Case(
        "an authority that is revoked",
        ONLY_AUTHORITY + "Port {certifiedhost}",
        known="@cert-authority * {hostca}\n@revoked * {hostca}",
        ssh=False,
        says="revokes",
    ),
]
CASES = [*KEYS, *AGENTS, *CERTIFICATES, *WAYS, *HOSTS]


@dataclass
class World:
    """What the cases share: keys, agents, servers."""

    folder: Path
    words: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str, **more: object) -> str:
        return text.format(**self.words, **{key: str(value) for key, value in more.items()})


def sign(authority: Path, key: Path, into: Path, *options: str) -> None:
    """Write a certificate for a key."""
    shutil.copy(key.with_suffix(".pub"), into)
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, str(into)], check=True)
    into.unlink()


EXPIRED = ("-V", "20200101:20200102")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("w")
    folder.chmod(0o755)
    keys, certs, bare = folder / "keys", folder / "certs", folder / "a"
    for made in (keys, certs, bare):
        made.mkdir(mode=0o755)
    for name in ("right", "certified", "confirm", "ca", "hostca", "wronghost", *(f"wrong{i}" for i in range(6))):
        make_key(keys / name)
    for name, kind in (("rsa", "rsa"), ("ecdsa", "ecdsa"), ("pem", "rsa")):
        make_key(keys / name, kind)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", str(keys / "pem")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name, extra in (("locked", []), ("lockedpem", ["-m", "PEM"])):
        shutil.copy(keys / "rsa", keys / name)
        change = ["ssh-keygen", "-q", "-p", *extra, "-N", "secret", "-f", str(keys / name)]
        subprocess.run(change, check=True, stdout=subprocess.DEVNULL)
    sign(keys / "ca", keys / "certified", certs / "certified.pub", "-n", USER)
    sign(keys / "ca", keys / "certified", certs / "expired.pub", "-n", USER, *EXPIRED)
    for name in ("beside", "agents"):
        shutil.copy(keys / "certified", certs / name)
        shutil.copy(certs / "certified-cert.pub", certs / f"{name}-cert.pub")
    way = folder / "way"
    way.write_text(
        f"#!/bin/sh\n[ \"$1 $2 $4\" = 'cottage 127.0.0.1 {USER}' ] || exit 9\n"
        f'exec {sys.executable} {folder}/pipe.py "$2" "$3"\n'
    )
    way.chmod(0o755)
    (folder / "pipe.py").write_text(PIPE)
    (keys / "included").write_text(f"Host cottage\n  IdentityFile {keys}/right\n")
    authorized = tuple(keys / name for name in ("rsa", "ecdsa", "pem", "confirm"))
    world = World(folder)
    with contextlib.ExitStack() as stack:

        def server(name: str, *settings: str, host_key: Path | None = None) -> Sshd:
            place = folder / f"sshd-{name}"
            place.mkdir(mode=0o755)
            made = Sshd(place, keys / "right", settings=settings, more_keys=authorized)
            if host_key is not None:
                shutil.copy(host_key, made.host_key)
                shutil.copy(host_key.with_suffix(".pub"), made.host_key.with_suffix(".pub"))
            made.start()
            stack.callback(made.stop)
            return made

        def agent(name: str, *held: Path, unconfirmed: Path | None = None) -> str:
            stack.enter_context(agent_with(bare / name, *held, unconfirmed=unconfirmed))
            return str(bare / name)

        main = server("main", f"TrustedUserCAKeys {keys}/ca.pub")
        same = main.host_key
        for name, options in (("certifiedhost", ()), ("expiredhost", EXPIRED)):
            sign(keys / "hostca", same, folder / f"{name}.pub", "-h", "-n", "cottage.example,127.0.0.1", *options)
        ports = {
            "port": main,
            "strict": server("strict", "MaxAuthTries 2", host_key=same),
            "both": server("both", "AuthenticationMethods publickey,publickey", host_key=same),
            "sha1": server("sha1", "PubkeyAcceptedAlgorithms ssh-rsa", host_key=same),
            **{
                name: server(name, f"HostCertificate {folder}/{name}-cert.pub", host_key=same)
                for name in ("certifiedhost", "expiredhost")
            },
        }
        wrong = [keys / f"wrong{i}" for i in range(6)]
        (bare / "more").mkdir()
        world.words = {
            "keys": str(keys),
            "certs": str(certs),
            "way": str(way),
            "hostkey": public(same),
            "wronghostkey": public(keys / "wronghost"),
            "hostca": public(keys / "hostca"),
            **{name: str(made.port) for name, made in ports.items()},
            "right": agent("right", keys / "right"),
            "blanks": agent("my agent.sock", keys / "right"),
            "wrong": agent("wrong", keys / "wrong0"),
            "seven": agent("seven", *wrong, keys / "right"),
            "three": agent("three", *wrong[:2], keys / "right"),
            "unlocked": agent("unlocked", keys / "rsa"),
            "unconfirmed": agent("unconfirmed", keys / "right", unconfirmed=keys / "confirm"),
            "certified": agent("certified", keys / "certified"),
            "withcert": agent("withcert", certs / "agents"),
            "linked": str(bare / "linked"),
            "agents": str(bare),
        }
        (bare / "linked").symlink_to(bare / "right")
        names = f"gate,yard,barn,127.0.0.1,[127.0.0.1]:{main.port}"
        (keys / "known").write_text(f"{names} {public(same)}\n")
        (keys / "hashed").write_text(f"[127.0.0.1]:{main.port} {public(same)}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(keys / "hashed")], check=True, capture_output=True)
        yield world


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def real_ssh(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Log in with the real client."""
    return subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", *options, "cottage", "echo", "in"],
        capture_output=True,
        text=True,
        timeout=T,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_ssh(case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "known").write_text(world.fill(case.known or "127.0.0.1 {hostkey}") + "\n")
    for source, name in case.copies.items():
        found = tmp_path / source if source == "known" else Path(world.words["keys"]) / source
        shutil.copy(found, tmp_path / world.fill(name))
    for name, value in case.env.items():
        monkeypatch.setenv(name, world.fill(value, folder=tmp_path))
    config = tmp_path / "config"
    lines = case.config if case.config.startswith(("Host ", "Match ")) else f"Host cottage\n{case.config}"
    config.write_text(world.fill(lines + "\n" + (case.base or BASE), folder=tmp_path))

    done = real_ssh(config)
    assert (done.stdout == "in\n") == case.ssh, done.stderr

    host = Host.model_validate({"name": "cottage", "target": "cottage", "attribute": "cottage"})
    settings = Settings.model_validate({"ssh_config": config, "state_dir": tmp_path / "state"})
    endpoint = endpoint_for(host, settings, allow_first_use="@cert-authority" in case.known)
    try:
        with open_connection(endpoint, timeout_s=T) as target:
            assert target.run(["echo", "in"], timeout_s=T, root=False).stdout == "in\n"
            copying = real_ssh(write_ssh_config(target.link, tmp_path))
    except HoldfastError as error:
        assert not (case.ssh or case.better), error
        assert re.search(case.says, error.message), error.message
        assert error.message.isprintable()
    else:
        assert case.ssh or case.better
        # The same way for `nix copy`.
        assert copying.stdout == "in\n", copying.stderr
