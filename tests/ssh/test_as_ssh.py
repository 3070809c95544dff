"""Whoever gets in with `ssh cottage` gets in with Holdfast: the same config beside the real client.

A case says what `ssh` does; Holdfast must do the same, or better.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.as_ssh import USER, Case, World, compare, made_world

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
    Case("a gpg-agent", NO_FILE + "IdentityAgent {gpg}", {"SSH_AUTH_SOCK": "{wrong}"}),
    Case(
        "a gpg-agent, and a public key chooses", "IdentityFile {keys}/gpg.pub\nIdentitiesOnly yes\nIdentityAgent {gpg}"
    ),
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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made_world(tmp_path_factory.mktemp("w")) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_ssh(case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(case, world, tmp_path, monkeypatch)
