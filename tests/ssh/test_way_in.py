"""The way in, proved with real sshds: whom the origin lets in gets into the installer, which has its host key.

The origin is an sshd and a folder. facts.sh and kexec/run see that folder as the root; what kexec/run hands over is all
that the sshd of the installer has.
"""

import contextlib
import getpass
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.base.errors import LoginRefused, NotTrusted, TargetRefused
from holdfast.base.settings import script
from holdfast.facts.facts import parse_facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_in import WayIn, check_way_in, make_way_in
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.reach import reached
from tests.ssh.sshd import Sshd, make_key, public
from tests.unit.kexec_origin import Origin, made_origin
from tests.unit.test_facts import fake_root

T = 20
USER = getpass.getuser()
USUAL = ".ssh/authorized_keys"


@dataclass(frozen=True)
class Case:
    """An origin.

    Attributes:
        name: what it is about.
        settings: lines of its sshd_config; `{word}` as in World.words.
        files: files of its root.
        certificate: whether the login has one.
        host_key: the file of its host key there.
        stock: whether the standard way would do, too.
        refused: why the installer is not started, whatever the image.

    """

    name: str
    settings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    certificate: bool = False
    host_key: str = "etc/ssh/ssh_host_ed25519_key"
    stock: bool = False
    refused: str = ""


ORDINARY = {f"root/{USUAL}": "{key} me\n"}
CASES = [
    Case("keys in root's file", files=ORDINARY, stock=True),
    Case("tabs between the fields", files={f"root/{USUAL}": "{tabbed}\tme\n"}),
    Case("no newline at the end", files={f"root/{USUAL}": "# mine\n{key}"}, stock=True),
    Case(
        "options with quoted blanks", files={f"root/{USUAL}": 'restrict,environment="A=b c, d" {key} me\n'}, stock=True
    ),
    Case(
        "AuthorizedKeysFile in another folder, as YunoHost has it",
        ("AuthorizedKeysFile {folder}/origin/keys/%u",),
        {f"../keys/{USER}": "{key}\n"},
    ),
    Case(
        "AuthorizedKeysFile none, and a command",
        ("AuthorizedKeysFile none", "AuthorizedKeysCommand /bin/echo {key}", "AuthorizedKeysCommandUser nobody"),
    ),
    Case("an authority of users", ("AuthorizedKeysFile none", "TrustedUserCAKeys {ca}.pub"), certificate=True),
    Case(
        "an authority in authorized_keys",
        ("AuthorizedKeysFile {root}/root/.ssh/authorized_keys",),
        {f"root/{USUAL}": "cert-authority {ca_key}\n"},
        certificate=True,
    ),
    Case(
        "a stale file that only lets it run a command",
        ("AuthorizedKeysFile {folder}/origin/keys/%u",),
        {f"root/{USUAL}": 'command="echo no" {key}\n', f"../keys/{USER}": "{key}\n"},
    ),
    Case(
        "a stale file that lets it in only from elsewhere",
        ("AuthorizedKeysFile {folder}/origin/keys/%u",),
        {f"root/{USUAL}": 'from="192.0.2.0/24" {key}\n', f"../keys/{USER}": "{key}\n"},
        stock=True,  # it takes the options off
    ),
    Case("HostKey elsewhere", files=ORDINARY, host_key="persist/etc/ssh/ssh_host_ed25519_key"),
    Case("HostKey elsewhere, of an included file", files=ORDINARY, host_key="persist/included key"),
    Case(
        "HostKey elsewhere, and another in the usual place",
        files=ORDINARY
        | {"etc/ssh/ssh_host_ed25519_key": "{stale_private}", "etc/ssh/ssh_host_ed25519_key.pub": "{stale}"},
        host_key="persist/host",
    ),
    Case("a host key that no file names", files=ORDINARY, host_key="secret/host", refused="whose file is not known"),
]


class World:
    """An origin, its sshd, and the installer that it starts."""

    def __init__(self, case: Case, folder: Path) -> None:
        folder.chmod(0o755)
        self.case = case
        self.origin: Origin = made_origin("dash", folder / "origin")
        self.root = self.origin.root
        shutil.rmtree(self.root / "root/.ssh")
        for file in (self.root / "etc/ssh").iterdir():
            file.unlink()
        self.folder = folder
        keys = {name: make_key(folder / name) for name in ("id", "ca", "host", "stale")}
        self.key, self.ca = keys["id"], keys["ca"]
        self.words = {
            "folder": str(folder),
            "root": str(self.root),
            "key": public(self.key),
            "tabbed": public(self.key).replace(" ", "\t"),
            "ca": str(self.ca),
            "ca_key": public(self.ca),
            "stale": public(keys["stale"]),
            "stale_private": keys["stale"].read_text(),
        }
        if case.certificate:
            sign = ["ssh-keygen", "-q", "-s", str(self.ca), "-I", "x", "-n", USER, f"{self.key}.pub"]
            subprocess.run(sign, check=True)
        fake_root(self.root, {})
        for name, text in case.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(**self.words))
        self.host_key = self.root / case.host_key
        self.host_key.parent.mkdir(parents=True, exist_ok=True)
        for end in ("", ".pub"):
            shutil.copy(f"{keys['host']}{end}", f"{self.host_key}{end}")
        self._write_config()

    def _write_config(self) -> None:
        """Write the sshd_config that the scripts see."""
        named = f'HostKey "/{self.case.host_key}"'
        if "included" in self.case.host_key:
            self.origin.write("etc/ssh/sshd_config", "Include sshd_config.d/*.conf\n")
            self.origin.write("etc/ssh/sshd_config.d/10-keys.conf", f"hostkey = {named[8:]}\n")
        elif self.case.host_key.startswith("persist"):
            self.origin.write("etc/ssh/sshd_config", f"Port 22\n\t{named} # kept\n")

    @contextlib.contextmanager
    def answers(self) -> Iterator[Endpoint]:
        """The origin, while the body runs."""
        settings = tuple(line.format(**self.words) for line in self.case.settings)
        with self._serving(self.folder / "origin", settings, self.host_key) as endpoint:
            yield endpoint

    @contextlib.contextmanager
    def _serving(self, folder: Path, settings: tuple[str, ...], host_key: Path) -> Iterator[Endpoint]:
        """Run an sshd; its own AuthorizedKeysFile comes after the case's, and is empty or the one of root."""
        usual = (f"AuthorizedKeysFile {self.root}/root/{USUAL}",) if folder.name == "origin" else ()
        folder.mkdir(exist_ok=True)
        sshd = Sshd(folder, self.key, (*settings, *usual))
        sshd.host_key.unlink(missing_ok=True)
        shutil.copy(host_key, sshd.host_key)
        sshd.host_key.chmod(0o600)
        sshd.start()
        try:
            yield Endpoint(
                host="cottage",
                address="127.0.0.1",
                port=sshd.port,
                user=USER,
                identity_files=(self.key,),
                pins=self.folder / "state" / "known_hosts",
                pinned_key=public(self.folder / "host"),
            )
        finally:
            sshd.stop()

    def way_in(self, target: Connection, host: Host) -> WayIn:
        """Look at the origin as preflight does."""
        look = ["env", f"HOLDFAST_ROOT={self.root}", "sh", "-s"]
        said = target.run(
            look, stdin=script("any/facts.sh").encode(), timeout_s=60, root=False, max_output_bytes=1 << 20
        )
        found = make_way_in(reached(target, host), parse_facts(said.stdout, "cottage"), host)
        assert found is not None
        return found

    @contextlib.contextmanager
    def installer(self, flags: list[str]) -> Iterator[Endpoint]:
        """What the installer is with what kexec/run hands over."""
        assert self.origin.run(*flags)[0] == 0
        handed = self.origin.handed_over() / "ssh"
        (handed / "authorized_keys").chmod(0o644)
        settings = (f"AuthorizedKeysFile {handed}/authorized_keys",)
        host_key = handed / "ssh_host_ed25519_key"
        with self._serving(self.folder / "installer", settings, host_key) as endpoint:
            yield endpoint


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], World]:
    return lambda case: World(case, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_installer_lets_in_whom_the_origin_does(case: Case, world: Callable[[Case], World]) -> None:
    made = world(case)
    ours = Host(name="cottage")
    with made.answers() as endpoint, open_connection(endpoint, timeout_s=T) as target:
        way = made.way_in(target, ours)
        stock = made.way_in(target, Host(name="cottage", way=Way.STANDARD))
    assert way.method == ("certificate" if case.certificate else "key")
    assert way.key == public(made.key)
    if case.refused:
        with pytest.raises(TargetRefused, match=case.refused):
            check_way_in(way, ours, takes_login=True)
        return
    if not case.stock:
        with pytest.raises(TargetRefused):
            check_way_in(stock, Host(name="cottage", way=Way.STANDARD), takes_login=True)
    else:
        check_way_in(stock, Host(name="cottage", way=Way.STANDARD), takes_login=False)
    check_way_in(way, ours, takes_login=True)
    with made.installer(way.flags) as endpoint, open_connection(endpoint, timeout_s=T) as target:
        assert target.run(["echo", "in"], timeout_s=T, root=False).stdout == "in\n"


@pytest.mark.parametrize("case", [CASES[4], CASES[12]], ids=lambda case: case.name)
def test_without_what_kexec_run_is_told_the_installer_is_lost(case: Case, world: Callable[[Case], World]) -> None:
    made = world(case)
    if not case.settings:
        # Tailscale's SSH server answers with the key in the usual place, whatever sshd_config says.
        made.host_key = made.root / "etc/ssh/ssh_host_ed25519_key"
        (made.folder / "host.pub").write_text(f"{made.words['stale']}\n")
    with made.answers() as endpoint, open_connection(endpoint, timeout_s=T) as target:
        way = made.way_in(target, Host(name="cottage"))
    with made.installer(way.flags) as endpoint, open_connection(endpoint, timeout_s=T) as target:
        assert target.endpoint == endpoint
    shutil.rmtree(made.origin.notes / "unpacked")
    with made.installer([]) as endpoint, pytest.raises((LoginRefused, NotTrusted)):
        open_connection(endpoint, timeout_s=T)
