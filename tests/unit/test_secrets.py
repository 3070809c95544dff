"""Secrets that the user brings: what an entry may say, what reading it may do, and that nothing repeats it."""

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, ConfigError, ConnectionLost, Restarted, TargetRefused
from holdfast.base.size import MIB
from holdfast.inventory import secret
from holdfast.inventory.host import Host
from holdfast.inventory.loading import chosen_host, load_inventory
from holdfast.inventory.secret import EncryptionKey, ExtraFile
from holdfast.plan.fitness import check_target
from holdfast.target.machine import Machine
from holdfast.target.mounting import mount_again
from holdfast.target.secrets import check_secrets, installer_secrets, keys_in_ram, put_file
from tasks.preflight import preflight
from tests.log import Remembered
from tests.unit.cases import built, facts, host, image, plan
from tests.unit.server import body
from tests.unit.target import FakeMachine

POISON = "poison-of-the-user"
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts.toml"
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    return path


def file(**values: object) -> ExtraFile:
    return ExtraFile.model_validate({"path": "/etc/x", **values})


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def refused(wanted: secret.Secret) -> str:
    with pytest.raises(ConfigError) as error:
        wanted.read()
    line = str(error.value)
    assert POISON not in line
    assert "\n" not in line
    assert wanted.place in line
    assert error.value.hint
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    return line


def test_entries(inventory: Path) -> None:
    inventory.write_text("""
[a]
[[a.files]]
path = "/var/lib/app/token"
command = ["sops", "-d", "x.yaml"]
owner = "app:100"
mode = "0440"
[[a.files]]
path = "/etc/x y"
from = "keys/x"
[[a.encryption_keys]]
path = "/run/keys/disk"
from = "~/disk"
[[a.installer_secrets]]
name = "portal"
command = ["pass", "portal"]
[[a.installer_secrets]]
name = "_2.b-c"
from = "keys/x"
""")
    made = load_inventory(inventory).host("a")
    assert [(one.path, one.owner, one.mode) for one in made.files] == [
        ("/var/lib/app/token", "app:100", "0440"),
        ("/etc/x y", "root:root", "0600"),
    ]
    assert [one.owner_is_known for one in made.files] == [False, True]
    assert made.files[0].command == ("sops", "-d", "x.yaml")
    assert made.files[1].from_ == inventory.parent / "keys/x"
    assert made.encryption_keys[0].from_ == Path.home() / "disk"
    assert [(one.name, one.command, one.from_) for one in made.installer_secrets] == [
        ("portal", ("pass", "portal"), None),
        ("_2.b-c", None, inventory.parent / "keys/x"),
    ]
    assert Host.model_validate_json(made.model_dump_json()) == made
    told = chosen_host(inventory, "a", target="100.64.0.9")
    assert (told.files, told.encryption_keys) == (made.files, made.encryption_keys)


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        ("files", 'from = "x"', "files.0.path"),
        ("files", 'path = "/x"', "either from or command"),
        ("files", 'path = "/x", from = "x", command = ["x"]', "either from or command"),
        ("files", 'path = "/x", command = []', "files.0.command"),
        ("files", 'path = "/x", command = "sops -d"', "files.0.command"),
        ("files", 'path = "/x", command = ["a\\u0000b"]', "files.0.command.0"),
        *(
            ("files", f'path = "{path}", from = "x"', "absolute path")
            for path in ("", "x", "/", "/a/", "//a", "/a/../b", "/..", "/./a", "../a")
        ),
        *(("files", f'path = "/a{sign}", from = "x"', "control") for sign in ("\\n", "\\u0000", "\\u001b", "\\u202e")),
        ("files", 'path = "/nix/store/x", from = "x"', "can read the Nix store"),
        ("files", 'path = "/x", from = "a\\u0000"', "contain a NUL"),
        *(
            ("files", f'path = "/x", from = "x", owner = "{owner}"', "files.0.owner")
            for owner in ("root", "a:", ":a", "a:b:c", "-R:a", "a b:c", "4294967295:0", "0:99999999999", "a\\n:b")
        ),
        *(
            ("files", f'path = "/x", from = "x", mode = "{mode}"', "files.0.mode")
            for mode in ("4755", "1777", "0800", "u+s", "64", "00600", "")
        ),
        ("files", 'path = "/x", from = "x", mode = 600', "files.0.mode"),
        (
            "files",
            'path = "/x", fromm = "x"',
            "allowed are: command, from, mode, owner, path. Hint: Did you mean 'from'",
        ),
        ("files", 'path = "/x", from_ = "x"', "unknown key 'files.0.from_'"),
        ("files", 'path = "/x", from = "x" }, { path = "/x", from = "y"', "/x is listed twice"),
        ("encryption_keys", 'path = "/run/x", from = "x", owner = "a:b"', "allowed are: command, from, path"),
        *(
            ("encryption_keys", f'path = "{path}", from = "x"', "below /tmp or /run")
            for path in ("/etc/x", "/run", "/tmpx", "/run/holdfast/x", "/mnt/tmp/x")
        ),
        ("installer_secrets", 'name = "x"', "either from or command"),
        ("installer_secrets", 'name = "x", from = "x", command = ["x"]', "either from or command"),
        ("installer_secrets", 'from = "x"', "installer_secrets.0.name"),
        ("installer_secrets", 'name = "x", path = "/x", from = "x"', "allowed are: command, from, name"),
        ("installer_secrets", 'name = "x", from = "x" }, { name = "x", from = "y"', "secrets/x is listed twice"),
        ("installer_secrets", " }, { ".join(f'name = "n{n}", from = "x"' for n in range(65)), "at most 64 items"),
        *(
            ("installer_secrets", f'name = "{name}", from = "x"', "installer_secrets.0.name")
            for name in ("", ".x", "-x", "..", "a/b", "/x", "a b", "a\\n", "\\u00e4", "x" * 65)
        ),
    ],
)
def test_entry_that_cannot_be(inventory: Path, key: str, entry: str, said: str) -> None:
    inventory.write_text(f"[a]\n{key} = [{{ {entry} }}]\n")
    with pytest.raises(ConfigError) as error:
        load_inventory(inventory)
    line = str(error.value)
    assert said in line
    assert str(inventory) in line
    assert line.isprintable()


def test_file_is_read_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0\xff\r\n")
    assert file(**{"from": tmp_path / "x"}).read() == b"\0\xff\r\n"


def test_command_runs_without_a_shell_in_the_inventorys_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0\xff\n")
    assert file(command=["cat", "x"]).read() == b"\0\xff\n"
    assert file(command=["echo", "$HOME;", "`id`"]).read() == b"$HOME; `id`\n"
    assert file(command=python("import sys; print(repr(sys.stdin.read()))")).read() == b"''\n"


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(name: str) -> str:
        return refused(file(**{"from": tmp_path / name}))

    assert f"{tmp_path}/nope cannot be read: No such file" in of("nope")
    (tmp_path / "folder").mkdir()
    assert "Is a directory" in of("folder")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in of("pipe")
    (tmp_path / "empty").touch()
    assert "is empty" in of("empty")
    monkeypatch.setattr(ExtraFile, "max_bytes", 2 * MIB)
    with (tmp_path / "large").open("wb") as large:
        large.truncate(2 * MIB + 1)
    assert "larger than 2 MiB" in of("large")


def test_command_that_gives_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*command: str) -> str:
        return refused(file(command=command))

    assert "`/nope/sops` on the operator cannot be run: No such file" in of("/nope/sops", POISON)
    assert "cannot be run" in of("/etc/passwd", POISON)
    failing = python(f"import sys; print('{POISON}'); sys.exit('locked\\nby \\x1b[31mgpg')")
    assert "ended with status 1: locked | by \\x1b[31mgpg" in of(*failing)
    assert "status 1: (no output)" in of("sh", "-c", f"echo {POISON}; exit 1")
    assert "printed nothing" in of("true")
    monkeypatch.setattr(ExtraFile, "max_bytes", 1000)
    assert "printed more than 1000 bytes" in of("sh", "-c", "yes | head -c 1001")
    assert "printed more than 1000 bytes" in of("sh", "-c", "yes | head -c 1000000")
    monkeypatch.setattr(secret, "TIMEOUT_S", 0.5)
    began = time.monotonic()
    assert "did not end within" in of("sh", "-c", f"echo {POISON}; echo passphrase? >&2; sleep 60 & sleep 60")
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("desk", "server")
def test_all_are_tried_at_preflight(tmp_path: Path, machine: FakeMachine) -> None:
    ran = [{"path": f"/run/{name}", "command": ["sh", "-c", f"touch {name}; echo x"]} for name in "ab"]
    check_secrets(host(encryption_keys=ran[:1], files=ran[1:]))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "state"}
    with pytest.raises(ConfigError, match="nope cannot be read"):
        body(preflight)(host(files=[{"path": "/x", "from": "/nope"}]))
    assert machine.story == []


def unpacked(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert all(one.isreg() and (one.mode, one.uid, one.gid) == (0o600, 0, 0) for one in tar)
        return {one.name: (tar.extractfile(one) or io.BytesIO()).read() for one in tar}


def test_secrets_for_the_installer_are_a_tar(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0\n")
    wanted = [{"name": "x" * 64, "from": tmp_path / "x"}, {"name": "portal", "command": ["echo", POISON]}]
    assert unpacked(installer_secrets(host(installer_secrets=wanted))) == {
        "x" * 64: b"\0\n",
        "portal": POISON.encode() + b"\n",
    }
    assert installer_secrets(host()) == b""


def test_secrets_for_the_installer_are_bounded_together(tmp_path: Path) -> None:
    for name, size in (("a", MIB - 1), ("b", 1), ("c", 1)):
        (tmp_path / name).write_bytes(b"x" * size)
    entries = [{"name": name, "from": tmp_path / name} for name in "abc"]
    # Far below what the scripts take.
    assert len(installer_secrets(host(installer_secrets=entries[:2]))) < 1100 * 1024
    with pytest.raises(ConfigError, match="installer_secrets of cottage are larger than 1 MiB together"):
        check_secrets(host(installer_secrets=entries))


def test_secret_for_the_installer_that_cannot_be_read_is_found_at_preflight() -> None:
    with pytest.raises(ConfigError, match="for /run/holdfast/secrets/portal on the target: /nope cannot be read"):
        check_secrets(host(installer_secrets=[{"name": "portal", "from": "/nope"}]))


def test_image_that_takes_no_secrets_is_refused_if_there_are_some() -> None:
    seen, wants = facts("debian-12"), {"installer_secrets": [{"name": "portal", "from": "/x"}]}
    check_target(seen, host(**wants), image(), now=NOW)
    check_target(seen, host(), image(takes_secrets=False), now=NOW)
    with pytest.raises(TargetRefused, match=r"the image kexec.tar.gz takes none.*Build it again"):
        check_target(seen, host(**wants), image(takes_secrets=False), now=NOW)
    # The standard way's image is built later, and is refused all the same before anything is built.
    with pytest.raises(TargetRefused, match=r"the standard way takes none.*Choose the other way"):
        check_target(seen, host(**wants, way="standard"), None, now=NOW)
    # A machine that is in its installer already has what it has.
    check_target(facts("installer"), host(**wants), image(takes_secrets=False), now=NOW)


def test_plan_names_the_files_and_nothing_else() -> None:
    seen = facts("debian-12")
    made = plan(seen, host(files=[{"path": "/etc/token", "command": ["echo", POISON]}]))
    assert "/etc/token" in made.carried
    assert POISON not in made.model_dump_json()


class Target:
    """An installer whose RAM is a folder; writes down all that could show a secret."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shown: list[str] = []
        self.connections = 0
        self.fails: Exception | None = None

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        self.connections += 1
        if self.fails and self.connections > 1:
            raise self.fails
        yield self

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None, check: bool = True) -> None:
        self.shown += argv
        if argv[0] == "systemctl" or argv[3] == "unit-start.sh":
            assert check is (argv[0] != "systemctl")
            return
        inside = [str(self.root) if word == "/" else word.replace("/run/", f"{self.root}/run/") for word in argv[4:]]
        if "--forget" not in inside:
            inside = [word.replace(f"{self.root}/run/", "/run/") for word in inside]
        inside = [word for word in inside if word != "--ram"]
        done = subprocess.run(
            [*argv[:4], *inside], input=stdin or b"", capture_output=True, check=False, timeout=timeout_s
        )
        if done.returncode:
            raise CommandFailed(CommandResult(tuple(argv), "cottage", done.returncode, "", done.stderr.decode(), 1.0))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    if os.geteuid() != 0:
        pytest.skip("files get owners")
    return Target(tmp_path)


KEYED = host(encryption_keys=[{"path": "/run/keys/a", "command": ["echo", POISON]}])


def test_keys_are_there_only_for_the_body(target: Target, log: Remembered) -> None:
    place = target.root / "run/keys/a"
    with keys_in_ram(KEYED, target.connect, log, most_s=100):
        assert place.read_text() == f"{POISON}\n"
    assert not place.exists()
    assert "--ram" in target.shown
    assert POISON not in " ".join(target.shown)
    with pytest.raises(RuntimeError), keys_in_ram(KEYED, target.connect, log, most_s=100):
        assert place.exists()
        raise RuntimeError
    assert not place.exists()
    assert log == Remembered()


def test_keys_that_can_only_be_put_in_part_are_removed(target: Target, log: Remembered) -> None:
    two = [*KEYED.model_dump()["encryption_keys"], {"path": "/run/keys/b/c", "command": ["echo", POISON]}]
    (target.root / "run/keys").mkdir(parents=True)
    (target.root / "run/keys/b").touch()
    with (
        pytest.raises(CommandFailed, match=r"/run/keys/b/c was not written: .*is not a folder") as error,
        keys_in_ram(host(encryption_keys=two), target.connect, log, most_s=100),
    ):
        pytest.fail("it has no keys")
    assert "#!/bin/sh" not in str(error.value)
    assert not (target.root / "run/keys/a").exists()
    assert log == Remembered()


def test_without_keys_nobody_is_asked(target: Target, log: Remembered) -> None:
    with keys_in_ram(host(), target.connect, log, most_s=100):
        assert target.connections == 0
    assert log == Remembered()


def test_keys_that_cannot_be_removed_are_told_of_and_hide_no_failure(target: Target, log: Remembered) -> None:
    target.fails = ConnectionLost("the link is down.")
    with pytest.raises(RuntimeError), keys_in_ram(KEYED, target.connect, log, most_s=100):
        raise RuntimeError
    assert log.warned == [
        "the encryption keys could not be removed from the RAM of cottage: the link is down. It removes them itself,"
        " within 160 s at the latest."
    ]
    target.connections, target.fails = 0, Restarted("it was rebooted.")
    with keys_in_ram(KEYED, target.connect, log, most_s=100):
        pass
    assert len(log.warned) == 1


@pytest.mark.usefixtures("desk")
def test_keys_are_there_again_to_mount(machine: FakeMachine, log: Remembered) -> None:
    machine.is_in("installer")
    here = Machine(KEYED, log)
    for _ in range(2):  # the second time it is mounted
        mount_again(here, here.connect(), built(), plan(facts("debian-12")), facts("installer"))
    assert machine.story == [
        "copied to /: disko-mount",
        "/run/keys/a put",
        "disks mounted",
        "/run/keys/a forgotten",
    ]


def test_file_of_a_user_that_is_made_later(target: Target) -> None:
    wanted = file(path="/etc/token", command=["echo", POISON], owner="app:root", mode="0644")
    (target.root / "etc").mkdir()

    def put(*, names_known: bool) -> tuple[int, int]:
        put_file(target, wanted, str(target.root), names_known=names_known, timeout_s=60)  # type: ignore[arg-type]
        status = (target.root / "etc/token").stat()
        return status.st_uid, status.st_mode & 0o7777

    assert put(names_known=False) == (0, 0o600)
    with pytest.raises(ConfigError, match="the owner of /etc/token is app:root, and") as error:
        put(names_known=True)
    assert "numbers" in error.value.hint
    (target.root / "etc/passwd").write_text("app:x:77:0::/:\n")
    assert put(names_known=True) == (77, 0o644)
    assert POISON not in " ".join(target.shown)


def test_key_has_its_own_size() -> None:
    key = EncryptionKey.model_validate({"path": "/tmp/x", "command": ["head", "-c", "1048577", "/dev/zero"]})
    assert "printed more than 1048576 bytes" in refused(key)
