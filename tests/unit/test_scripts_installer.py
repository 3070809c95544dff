"""What the installer does with the hand-over, in a folder that stands for its root."""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "nix/scripts"
RUN_JSON = '{\n"run_id": "run-1",\n"origin_boot_id": "1111-2222",\n"dead_man_s": 600,\n"hostname": "cottage"\n}\n'


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = len(content)
    return info, content


STATE = entry("./tailscaled.state", b'{"key": 1}')


def packed(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Installer:
    """The installer's root, and the folder that kexec/run's archive was unpacked to."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.shell = shell
        self.root = folder / "root"
        self.handover = folder / "handover"
        for path in ("etc", "root", "var/lib", "proc/sys/kernel", "run"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc/os-release").write_text("ID=nixos\nVARIANT_ID=installer\nIMAGE_ID=image-7\n")
        for path in ("ssh", "holdfast"):
            (self.handover / path).mkdir(parents=True)

    @property
    def archive(self) -> Path:
        return self.handover / "holdfast/tailscale-state.tar.gz"

    def restore(self, archive: bytes | None = None, flags: tuple[str, ...] = ()) -> dict[str, object]:
        """Run the script; return the mark."""
        if archive is not None:
            self.archive.write_bytes(archive)
        script = str(SCRIPTS / "installer/installer-restore.sh")
        subprocess.run(
            [*self.shell, script, *flags, "--dead-man-s", "900", str(self.handover)],
            check=True,
            env={"PATH": os.environ["PATH"], "HOLDFAST_ROOT": str(self.root)},
            timeout=60,
        )
        mark: dict[str, object] = json.loads((self.root / "run/holdfast/installer.json").read_text())
        return mark

    @property
    def state(self) -> Path:
        return self.root / "var/lib/tailscale/tailscaled.state"


@pytest.fixture
def installer(shell: list[str], tmp_path: Path) -> Installer:
    return Installer(tmp_path, shell)


def test_puts_everything_in_its_place(installer: Installer) -> None:
    ssh = installer.handover / "ssh"
    (ssh / "authorized_keys").write_text("ssh-ed25519 AAAA me\n")
    (ssh / "ssh_host_ed25519_key").write_text("private")
    (ssh / "ssh_host_ed25519_key.pub").write_text("public")
    ours = installer.handover / "holdfast"
    (ours / "run.json").write_text(RUN_JSON)
    (ours / "hostname").write_text("cottage\n")
    (ours / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    for name in ("addrs", "routes-v4", "routes-v6"):
        (installer.handover / f"{name}.json").write_text(f'["{name}"]')
    mark = installer.restore(packed(STATE, entry("./certs/a.crt", b"certificate")))
    at = mark.pop("dead_man_at")
    assert isinstance(at, int)
    assert mark == {
        "image_id": "image-7",
        "run_id": "run-1",
        "origin_boot_id": "1111-2222",
        "state": "restored",
        "secrets": "none",
        "dead_man_s": 600,
    }
    assert installer.state.read_bytes() == b'{"key": 1}'
    assert installer.state.stat().st_mode & 0o777 == 0o600
    assert installer.state.parent.stat().st_mode & 0o777 == 0o700
    assert (installer.state.parent / "certs/a.crt").read_bytes() == b"certificate"
    root = installer.root
    assert (root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    assert (root / "root/.ssh").stat().st_mode & 0o777 == 0o700
    assert (root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/ssh/ssh_host_ed25519_key.pub").stat().st_mode & 0o777 == 0o644
    assert (root / "proc/sys/kernel/hostname").read_text() == "cottage\n"
    assert (root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\n"
    network = root / "run/holdfast/network"
    assert {path.name: path.read_text() for path in network.iterdir()} == {
        "addrs.json": '["addrs"]',
        "routes-v4.json": '["routes-v4"]',
        "routes-v6.json": '["routes-v6"]',
    }
    assert network.stat().st_mode & 0o777 == 0o700
    assert not ssh.exists()
    assert not ours.exists()
    assert (root / "run/holdfast/run.json").read_text() == RUN_JSON


def test_what_a_standby_needs_is_left_for_its_own_script(installer: Installer) -> None:
    for name in ("standby/kernel", "run.json", "hostname", "other/x"):
        (installer.handover / "holdfast" / name).parent.mkdir(exist_ok=True)
        (installer.handover / "holdfast" / name).write_text("x\n")
    installer.restore(packed(STATE))
    left = {path.relative_to(installer.handover).as_posix() for path in installer.handover.rglob("*")}
    assert left == {"holdfast", "holdfast/standby", "holdfast/standby/kernel"}


def test_folders_above_the_state_are_open_to_every_service(installer: Installer) -> None:
    """A new root has no /var yet. Services that are not root, such as timesyncd, need the way through it."""
    shutil.rmtree(installer.root / "var")
    assert installer.restore(packed(STATE))["state"] == "restored"
    for folder in ("var", "var/lib"):
        assert (installer.root / folder).stat().st_mode & 0o7777 == 0o755
    assert installer.state.parent.stat().st_mode & 0o7777 == 0o700


def test_in_stage_1_the_root_is_another_than_that_of_run_and_proc(installer: Installer) -> None:
    (installer.handover / "ssh/authorized_keys").write_text("ssh-ed25519 AAAA me\n")
    (installer.handover / "ssh/ssh_host_ed25519_key").write_text("private")
    ours = installer.handover / "holdfast"
    (ours / "run.json").write_text(RUN_JSON)
    (ours / "hostname").write_text("cottage\n")
    (ours / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    (installer.root / "sysroot/etc").mkdir(parents=True)
    before = {path for path in installer.root.rglob("*") if not path.is_dir()}
    mark = installer.restore(packed(STATE), ("--root", "/sysroot/", "--image-id", "image-8"))
    assert (mark["image_id"], mark["state"], mark["dead_man_s"]) == ("image-8", "restored", 600)
    written = {path for path in installer.root.rglob("*") if not path.is_dir()} - before
    assert {path.relative_to(installer.root).as_posix() for path in written} == {
        "proc/sys/kernel/hostname",
        "run/holdfast/installer.json",
        "run/holdfast/run.json",
        "run/systemd/resolved.conf.d/holdfast.conf",
        "sysroot/etc/resolv.conf",
        "sysroot/etc/ssh/ssh_host_ed25519_key",
        "sysroot/root/.ssh/authorized_keys",
        "sysroot/var/lib/tailscale/tailscaled.state",
    }


def test_each_authorized_key_is_there_once(installer: Installer) -> None:
    """Also if the restore of a stock image was there before (issue 20)."""
    (installer.handover / "ssh/authorized_keys").write_text("ssh-ed25519 AAAA me\n")
    (installer.root / "root/.ssh").mkdir()
    (installer.root / "root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA me\n")
    installer.restore()
    assert (installer.root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"


def test_without_os_release_there_is_a_mark_all_the_same(installer: Installer) -> None:
    (installer.root / "etc/os-release").unlink()
    assert installer.restore()["image_id"] == ""


@pytest.mark.parametrize("flags", [[], ["--dead-man-s", "900"], ["--rot", "/", "/"], ["/", "900"]])
def test_wrong_flags_are_refused(installer: Installer, flags: list[str]) -> None:
    command = [*installer.shell, str(SCRIPTS / "installer/installer-restore.sh"), *flags]
    env = {"PATH": os.environ["PATH"], "HOLDFAST_ROOT": str(installer.root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: " in done.stderr or "unknown flag" in done.stderr
    assert not (installer.root / "run/holdfast").exists()


def test_without_a_hand_over_it_starts_all_the_same(installer: Installer) -> None:
    shutil.rmtree(installer.handover)
    mark = installer.restore()
    assert (mark["state"], mark["run_id"], mark["origin_boot_id"]) == ("none", None, None)
    assert mark["dead_man_s"] == 900


@pytest.mark.parametrize("folder", ["", "./", "tailscale/", "var/lib/tailscale/"])
def test_takes_the_state_wherever_it_lies_in_the_archive(installer: Installer, folder: str) -> None:
    assert installer.restore(packed(entry(f"{folder}tailscaled.state", b"s")))["state"] == "restored"
    assert installer.state.read_bytes() == b"s"


def sparse(what: str = ".") -> bytes:
    """An archive with a file of 1 TiB that is one hole."""
    with tempfile.TemporaryDirectory() as work:
        with (Path(work) / "hole").open("wb") as file:
            file.truncate(1 << 40)
        (Path(work) / "tailscaled.state").write_text("state")
        return subprocess.run(["tar", "-C", work, "-Sczf", "-", what], check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (packed(STATE, entry("/etc/cron.d/x", b"x")), "a path that leads out of it"),
        (packed(STATE, entry("../../etc/x", b"x")), "a path that leads out of it"),
        (packed(STATE, entry("a/../../x", b"x")), "a path that leads out of it"),
        (packed(STATE, entry("a/..", kind=tarfile.DIRTYPE)), "a path that leads out of it"),
        (packed(STATE, entry("out", kind=tarfile.SYMTYPE, link="/etc")), "links, devices"),
        (packed(STATE, entry("twin", kind=tarfile.LNKTYPE, link="./tailscaled.state")), "links, devices"),
        (packed(STATE, entry("disk", kind=tarfile.BLKTYPE)), "links, devices"),
        (packed(STATE, entry("tty", kind=tarfile.CHRTYPE)), "links, devices"),
        (packed(STATE, entry("pipe", kind=tarfile.FIFOTYPE)), "links, devices"),
        (packed(STATE, entry("out", kind=tarfile.SYMTYPE, link="/etc"), entry("out/x", b"x")), "links, devices"),
        (packed(STATE, *[entry(f"f{n}") for n in range(2001)]), "more than 2000 files"),
        (packed(STATE, entry("x" * 262144)), "very long names"),
        (gzip.compress(b"\0" * (65 << 20)), "more than 67108864 bytes"),
        (b"\0" * (65 << 20), "more than 67108864 bytes"),
        (sparse(), "a file of more than 67108864 bytes"),
        (packed(entry("notes.txt", b"x")), "no tailscaled.state"),
        (packed(entry("tailscaled.state")), "tailscaled.state is empty"),
        (packed(STATE)[:-20], "damaged"),
        (b"not an archive", "damaged"),
        (gzip.compress(b"not a tar" * 200), "damaged"),
        (b"", "damaged"),
    ],
)
def test_a_hostile_archive_is_refused_and_the_installer_starts(
    installer: Installer, archive: bytes, reason: str
) -> None:
    (installer.handover / "ssh/authorized_keys").write_text("ssh-ed25519 AAAA me\n")
    before = {path for path in installer.root.parent.rglob("*") if "handover" not in path.parts}
    mark = installer.restore(archive)
    assert str(mark["state"]).startswith("refused: ")
    assert reason in str(mark["state"])
    added = {p.relative_to(installer.root).as_posix() for p in installer.root.rglob("*") if p not in before}
    allowed = ("root/.ssh", "etc/ssh", "run/holdfast")
    assert not [name for name in added if not name.startswith(allowed)]
    assert (installer.root / "root/.ssh/authorized_keys").exists()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_hand_over_that_is_no_file_is_refused(installer: Installer, tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(packed(STATE))
        installer.archive.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        installer.archive.mkdir()
    else:
        os.mkfifo(installer.archive)
    assert installer.restore()["state"] == "refused: the archive is not a regular file"
    assert not installer.state.exists()


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.decompress(packed(*entries))


PORTAL = entry("portal", b"user=me\0\n")


def test_secrets_are_roots_alone_and_leave_the_hand_over(installer: Installer) -> None:
    (installer.handover / "holdfast/secrets.tar").write_bytes(tar(PORTAL, entry("_b.2-c", b"x")))
    stale = installer.root / "run/holdfast/secrets/stale"
    stale.parent.mkdir(parents=True)
    stale.touch()
    mark = installer.restore(packed(STATE))
    assert (mark["state"], mark["secrets"]) == ("restored", "restored")
    folder = installer.root / "run/holdfast/secrets"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"portal": PORTAL[1], "_b.2-c": b"x"}
    assert {path.stat().st_mode & 0o7777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert not (installer.handover / "holdfast").exists()
    assert {path.name for path in folder.parent.iterdir()} == {"secrets", "installer.json"}


def test_folder_beside_the_secrets_can_be_read_by_all(installer: Installer) -> None:
    (installer.handover / "holdfast/secrets.tar").write_bytes(tar(PORTAL))
    assert installer.restore()["secrets"] == "restored"
    assert (installer.root / "run/holdfast").stat().st_mode & 0o777 == 0o755


def test_secrets_take_no_modes_and_owners_of_the_tar(installer: Installer) -> None:
    info, content = entry("portal", b"x")
    info.mode, info.uid, info.gid = 0o6777, 1000, 1000
    (installer.handover / "holdfast/secrets.tar").write_bytes(tar((info, content)))
    assert installer.restore()["secrets"] == "restored"
    seen = (installer.root / "run/holdfast/secrets/portal").stat()
    assert (seen.st_mode & 0o7777, seen.st_uid) == (0o600, os.geteuid())


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "damaged"),
        (b"not a tar" * 200, "damaged"),
        (tar(), "damaged"),
        (tar(PORTAL)[:515], "damaged"),
        (tar(PORTAL, entry("out", kind=tarfile.SYMTYPE, link="/etc")), "not plain files"),
        (tar(PORTAL, entry("twin", kind=tarfile.LNKTYPE, link="portal")), "not plain files"),
        (tar(PORTAL, entry("folder", kind=tarfile.DIRTYPE)), "not plain files"),
        (tar(PORTAL, entry("tty", kind=tarfile.CHRTYPE)), "not plain files"),
        (tar(PORTAL, entry("pipe", kind=tarfile.FIFOTYPE)), "not plain files"),
        *(
            (tar(PORTAL, entry(name, b"x")), "not a simple one")
            for name in ("/portal", "a/b", "./a", "../a", "..", ".a", "-a", "a b", "a\nb", "\u00e4", "x" * 65)
        ),
        (tar(*(entry(f"f{n}") for n in range(65))), "more than 64 files"),
        (tar(entry("big", bytes(2 << 20))), "more than 2097152 bytes"),
        (gzip.decompress(sparse("hole")), "a file of more than 2097152 bytes"),
    ],
)
def test_hostile_secrets_are_refused_and_the_installer_starts(
    installer: Installer, archive: bytes, reason: str
) -> None:
    (installer.handover / "holdfast/secrets.tar").write_bytes(archive)
    before = {path for path in installer.root.parent.rglob("*") if "handover" not in path.parts}
    mark = installer.restore(packed(STATE))
    assert mark["state"] == "restored"
    assert str(mark["secrets"]).startswith("refused: ")
    assert reason in str(mark["secrets"])
    added = {p.relative_to(installer.root).as_posix() for p in installer.root.rglob("*") if p not in before}
    allowed = {"root/.ssh", "run/holdfast", "run/holdfast/installer.json", "etc/ssh"}
    assert {name for name in added if not name.startswith("var/lib/tailscale")} <= allowed
    assert not (installer.handover / "holdfast").exists()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_secrets_that_are_no_file_are_refused(installer: Installer, tmp_path: Path, kind: str) -> None:
    archive = installer.handover / "holdfast/secrets.tar"
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(tar(PORTAL))
        archive.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        archive.mkdir()
    else:
        os.mkfifo(archive)
    assert installer.restore()["secrets"] == "refused: the archive is not a regular file"
    assert not (installer.root / "run/holdfast/secrets").exists()


def test_a_line_break_in_a_name_is_part_of_it(installer: Installer) -> None:
    assert installer.restore(packed(STATE, entry("a\n", b"1"), entry("b\nc", b"2")))["state"] == "restored"
    assert (installer.state.parent / "b\nc").read_bytes() == b"2"


def test_permissions_of_the_archive_are_not_taken(installer: Installer) -> None:
    info, content = entry("tailscaled.state", b"s")
    info.mode = 0o6777
    folder, _ = entry("certs", kind=tarfile.DIRTYPE)
    folder.mode = 0o777
    assert installer.restore(packed((info, content), (folder, b"")))["state"] == "restored"
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (installer.state, installer.state.parent / "certs")}
    assert modes == {"tailscaled.state": 0o700, "certs": 0o700}


def test_told_no_deadline_it_has_no_dead_man(installer: Installer) -> None:
    ours = installer.handover / "holdfast"
    (ours / "run.json").write_text(RUN_JSON.replace("600", "0"))
    (ours / "partition.json").write_text('{"run_id": "run-1"}')
    mark = installer.restore()
    assert (mark["run_id"], mark["dead_man_at"], mark["dead_man_s"]) == ("run-1", None, None)
    assert (installer.root / "run/holdfast/partition.json").read_text() == '{"run_id": "run-1"}'


def test_facts_that_are_not_what_they_should_be_are_left_out(installer: Installer) -> None:
    ours = installer.handover / "holdfast"
    (ours / "run.json").write_text('{\n"run_id": "a\\"b",\n"origin_boot_id": "$(id)",\n"dead_man_s": -5,\n}\n')
    (ours / "hostname").write_text("a;b\n")
    (ours / "resolv.conf").write_text("nameserver $(id)\n")
    mark = installer.restore()
    assert (mark["run_id"], mark["origin_boot_id"], mark["dead_man_s"]) == (None, None, 900)
    assert not (installer.root / "proc/sys/kernel/hostname").exists()
    assert not (installer.root / "etc/resolv.conf").exists()


@pytest.mark.parametrize(("told", "expected"), [("600", "OnActiveSec=600"), ("null", None), ("0", None)])
def test_the_dead_mans_deadline_is_known_before_units_are_read(tmp_path: Path, told: str, expected: str | None) -> None:
    (tmp_path / "holdfast").mkdir()
    (tmp_path / "holdfast/run.json").write_text(RUN_JSON.replace("600", told))
    script = (SCRIPTS / "installer/dead-man-generator.sh").read_text().replace("@handover@", str(tmp_path))
    early = tmp_path / "early"
    early.mkdir()
    subprocess.run(["dash", "-c", script, "generator", str(tmp_path), str(early), "late"], check=True)
    written = tmp_path / "holdfast-deadman.timer.d/deadline.conf"
    masked = {"holdfast-deadman.timer": Path("/dev/null")} if told == "0" else {}
    assert {path.name: path.readlink() for path in early.iterdir()} == masked
    if expected is None:
        assert not written.exists()
    else:
        assert written.read_text().splitlines() == ["[Timer]", "OnActiveSec=", expected]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('"origin_mark": "yes",\n"origin_nixos": "yes",\n"origin_hostname": "barn",', ["yes", "yes", "barn"]),
        ('"origin_mark": "no",\n"origin_nixos": "no",\n"origin_hostname": "",', ["no", "no", None]),
        ('"origin_mark": "$(id)",\n"origin_nixos": "a\\"b",', [None, None, None]),
        ("", [None, None, None]),
    ],
)
def test_mark_says_what_ran_before(installer: Installer, said: str, expected: list[str | None]) -> None:
    (installer.handover / "holdfast/run.json").write_text(f'{{\n"run_id": "run-1",\n{said}\n"hostname": "x"\n}}\n')
    mark = installer.restore()
    assert [mark.get(name) for name in ("origin_mark", "origin_nixos", "origin_hostname")] == expected
