"""A file of the user on its way into the new root, or into RAM: by dash and by busybox, with what must not happen."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files get owners")

SCRIPT = script("any/put-file.sh")
TOOLS = ("cat", "chmod", "chown", "dd", "mkdir", "mv", "rm", "stat", "sync", "wc")
POISON = b"poison\0of the user\n"
SHM = Path("/dev/shm")


@dataclass
class Target:
    root: Path
    userland: Userland

    def run(self, *args: str, content: bytes = b"") -> tuple[int, str]:
        done = subprocess.run(
            [*self.userland.shell, "-c", SCRIPT, "put-file", *args],
            input=content,
            capture_output=True,
            env={"PATH": self.userland.path},
            check=False,
            timeout=60,
        )
        assert done.stdout == b""
        assert b"poison" not in done.stderr
        return done.returncode, done.stderr.decode()

    def put(
        self, path: str, *flags: str, owner: str = "root:root", mode: str = "0600", parents: str = "0755"
    ) -> tuple[int, str]:
        return self.run(*flags, str(self.root), path, owner, mode, parents, str(len(POISON)), content=POISON)


@pytest.fixture
def target(userland: Userland, tmp_path: Path) -> Target:
    (tmp_path / "root/etc").mkdir(parents=True)
    return Target(tmp_path / "root", userland)


@pytest.fixture
def ram(target: Target) -> Iterator[Target]:
    """The same target, with a root in RAM."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(SHM)], capture_output=True, text=True, check=False).stdout
    if kind.strip() != "tmpfs":
        pytest.skip(f"{SHM} is not in memory")
    target.root = SHM / f"holdfast-test-{uuid.uuid4().hex}"
    target.root.mkdir()
    yield target
    shutil.rmtree(target.root)


def shown(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


def users(target: Target) -> None:
    (target.root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nlazy:x::5::/:\napp:x:812:5::/:/bin/false\n")
    (target.root / "etc/group").write_text("root:x:0:\napps:x:813:a,b\n")


def test_content_owner_and_mode(target: Target) -> None:
    users(target)
    for _ in range(2):  # it can be repeated
        assert target.put("/var/lib/my app/token", owner="app:apps", mode="0440") == (0, "")
    file = target.root / "var/lib/my app/token"
    assert file.read_bytes() == POISON
    assert shown(file) == (812, 813, 0o440)
    assert {shown(target.root / name) for name in ("var", "var/lib", "var/lib/my app")} == {(0, 0, 0o755)}
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_folder_that_is_there_keeps_its_mode(target: Target) -> None:
    (target.root / "secret").mkdir(mode=0o700)
    assert target.put("/secret/x", owner="7:8", mode="640") == (0, "")
    assert shown(target.root / "secret") == (0, 0, 0o700)
    assert shown(target.root / "secret/x") == (7, 8, 0o640)


@pytest.mark.parametrize("owner", ["nobody:root", "root:nobody", "app.:root", "lazy:root", "a*:root"])
def test_owner_that_is_not_known(target: Target, owner: str) -> None:
    users(target)
    status, said = target.put("/x/y", owner=owner, mode="0644")
    assert status == 3
    assert owner in said
    assert not (target.root / "x").exists()
    # Before nixos-install nobody is known, and so nobody else may read it.
    assert target.put("/x/y", "--later", owner=owner, mode="0644") == (0, "")
    assert shown(target.root / "x/y") == (0, 0, 0o600)


def test_names_are_not_looked_up_through_links(target: Target, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("app:x:812:5::/:\n")
    (target.root / "etc/passwd").symlink_to(tmp_path / "passwd")
    assert target.put("/x", owner="app:root")[0] == 3
    shutil.rmtree(target.root / "etc")
    (target.root / "etc").symlink_to(tmp_path)
    assert target.put("/x", owner="app:root")[0] == 3


def test_no_link_leads_out(target: Target, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").write_text("before")
    (target.root / "way").symlink_to(out)
    for path in ("/way/x", "/way/a/b", "/way/file"):
        status, said = target.put(path)
        assert status == 1
        assert "is a link" in said
    # In the file's own place, and in that of what is beside it, the link goes.
    for name in ("file", "folder"):
        (target.root / name).symlink_to(out / "file" if name == "file" else out)
        (target.root / f"{name}.holdfast-new").symlink_to(out / "file")
        assert target.put(f"/{name}") == (0, "")
        assert (target.root / name).read_bytes() == POISON
        assert not (target.root / name).is_symlink()
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("file", "before")]


def test_place_that_is_taken(target: Target) -> None:
    (target.root / "folder/below").mkdir(parents=True)
    (target.root / "file").touch()
    for path, why in (("/folder", "is a folder"), ("/file/x", "is not a folder")):
        status, said = target.put(path)
        assert status == 1
        assert why in said


def test_part_of_a_file_is_none(target: Target) -> None:
    (target.root / "x").write_text("before")
    args = [str(target.root), "/x", "0:0", "0600", "0755", str(len(POISON) + 1)]
    status, said = target.run(*args, content=POISON)
    assert status == 1
    assert "only a part" in said
    assert (target.root / "x").read_text() == "before"
    assert sorted(path.name for path in target.root.iterdir()) == ["etc", "x"]


def test_key_lies_in_ram_and_is_forgotten(ram: Target) -> None:
    place = ram.root / "run/keys/disk"
    assert ram.put("/run/keys/disk", "--ram", parents="0700") == (0, "")
    assert place.read_bytes() == POISON
    assert (shown(place), shown(place.parent)) == ((0, 0, 0o600), (0, 0, 0o700))
    half = place.with_name("disk.holdfast-new")  # as after a break
    shutil.copy(place, half)
    kept = [path.open("rb") for path in (place, half)]
    assert ram.run("--forget", str(place), str(ram.root / "never/there")) == (0, "")
    assert list(place.parent.iterdir()) == []
    for file in kept:
        with file:
            assert file.read() == bytes(len(POISON))


def test_forgetting_follows_no_link(ram: Target) -> None:
    (ram.root / "other").write_text("other")
    (ram.root / "key").symlink_to("other")
    (ram.root / "empty").touch()
    assert ram.run("--forget", str(ram.root / "key"), str(ram.root / "empty")) == (0, "")
    assert [(path.name, path.read_text()) for path in ram.root.iterdir()] == [("other", "other")]


def test_key_is_not_written_to_a_disk(target: Target) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(target.root)], capture_output=True, text=True, check=True)
    if kind.stdout.strip() in ("tmpfs", "ramfs"):
        pytest.skip("the tests' folder is in memory")
    status, said = target.put("/key", "--ram")
    assert status == 1
    assert "is not in memory" in said
    assert not list(target.root.glob("key*"))
