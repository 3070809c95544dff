"""Real sshds on loopback, real agents, and the same ssh config for the real client and for Holdfast."""

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
from tests.ssh.sshd import Sshd, agent_with, gpg_agent, make_key, public
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


@contextlib.contextmanager
def made_world(folder: Path) -> Iterator[World]:
    """Run the servers and the agents while the body does."""
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
    authorized = tuple(keys / name for name in ("rsa", "ecdsa", "pem", "confirm", "gpg"))
    world = World(folder)
    with contextlib.ExitStack() as stack:
        of_gpg = stack.enter_context(gpg_agent(folder / "gpg", keys / "gpg.pub"))

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
            "gpg": of_gpg,
            "linked": str(bare / "linked"),
            "agents": str(bare),
        }
        (bare / "linked").symlink_to(bare / "right")
        names = f"gate,yard,barn,127.0.0.1,[127.0.0.1]:{main.port}"
        (keys / "known").write_text(f"{names} {public(same)}\n")
        (keys / "hashed").write_text(f"[127.0.0.1]:{main.port} {public(same)}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(keys / "hashed")], check=True, capture_output=True)
        yield world


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


def compare(case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log in with the real client and with Holdfast, and then with the config that `nix copy` gets."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
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
