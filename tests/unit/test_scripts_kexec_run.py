"""kexec/run, against an origin in a folder, with a kexec and an ip that only take notes."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from holdfast.base.settings import script

SCRIPT = script("origin/kexec-run.sh")
POISON = "privkey:c0ffee"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlain me@here"
INITRD = hashlib.sha512(b"initrd").digest() * 200 + b"x"

FAKE_KEXEC = """#!/bin/sh
[ ! -e "$NOTES/fail" ] || [ "$1" != --load ] || { echo "$@" >>"$NOTES/kexec"; echo "not this way" >&2; exit 1; }
echo "$@" >>"$NOTES/kexec"
case $1 in
--load) cp "${0%/*}/initrd" "$NOTES/loaded"; while [ -e "$NOTES/hang" ]; do :; done ;;
esac
"""
FAKE_IP = '#!/bin/sh\necho "[]"\n'
FAKE_TOOLS = {
    "id": "echo 0",
    "sleep": "exit 0",
    "getent": 'case $2 in admin) echo "admin:x:1000:1000::/home/admin:/bin/sh" ;; *) exit 2 ;; esac',
    "dmesg": "echo kernel said no",
}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root are needed")


class Origin:
    """A folder that stands for the origin's root, with the image unpacked in it."""

    def __init__(self, folder: Path, shell: Sequence[str]) -> None:
        self.root = folder / "root"
        self.notes = folder / "notes"
        self.tools = folder / "bin"
        self.shell = shell
        self.kexec = self.root / "root/kexec/kexec"
        self.read = 0
        for path in (self.notes, self.tools, self.kexec):
            path.mkdir(parents=True)
        for name, body in FAKE_TOOLS.items():
            self._program(self.tools / name, f"#!/bin/sh\n{body}\n")
        self._program(self.kexec / "kexec", FAKE_KEXEC)
        self._program(self.kexec / "ip", FAKE_IP)
        text = SCRIPT.replace("@init@", "/init").replace("@kernelParams@", "panic=30 quiet")
        self._program(self.kexec / "run", text)
        (self.kexec / "initrd").write_bytes(INITRD)
        self.write("root/.ssh/authorized_keys", KEY + "\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "host " + POISON)
        self.write("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAhost")
        self.write("etc/machine-id", "0" * 32 + "\n")
        self.write("etc/resolv.conf", "nameserver 192.0.2.53\n")
        self.write("proc/sys/kernel/random/boot_id", "11111111-2222\n")
        self.write("var/lib/tailscale/tailscaled.state", json.dumps({"_machinekey": POISON}))
        (self.root / "tmp").mkdir()

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def archive(self, name: str, content: str = POISON) -> Path:
        """Make a state archive on the origin."""
        source = self.notes / "source"
        source.mkdir(exist_ok=True)
        (source / "tailscaled.state").write_text(content)
        path = self.root / name
        subprocess.run(["tar", "-C", str(source), "-czf", str(path), "."], check=True)
        shutil.rmtree(source)
        path.chmod(0o600)
        return path

    def start(self, *flags: str, stdin: int | None = None, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.shell, str(self.kexec / "run"), *flags],
            env={
                "PATH": f"{self.tools}:{os.environ['PATH']}",
                "HOLDFAST_ROOT": str(self.root),
                "NOTES": str(self.notes),
                **environment,
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hand(self, content: bytes, *flags: str) -> tuple[int, str]:
        """Run kexec/run with a file on its standard input; return its exit status and errors, and leave `self.read`."""
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            file.seek(0)
            process = self.start(*flags, stdin=file.fileno())
            out, errors = process.communicate(timeout=60)
            # The position is that of the open file, which the script shares.
            self.read = file.tell()
        assert POISON not in out + errors
        return process.returncode, errors

    def run(self, *flags: str, **environment: str) -> tuple[int, str, str]:
        """Run kexec/run; return its exit status, output and errors."""
        process = self.start(*flags, stdin=None, **environment)
        out, errors = process.communicate(timeout=60)
        assert POISON not in out + errors
        return process.returncode, out, errors

    def calls(self) -> list[str]:
        path = self.notes / "kexec"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a note has this text."""
        deadline = time.monotonic() + 20
        path = self.notes / name
        while not (path.exists() and text in path.read_text(errors="replace")):
            assert time.monotonic() < deadline, f"{name} never had {text!r}"
            time.sleep(0.02)

    def snapshot(self) -> dict[str, bytes]:
        """Everything that lies on the origin."""
        return {p.as_posix(): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}

    def handed_over(self) -> Path:
        """Unpack, with cpio, what was behind the initrd when the kernel got it."""
        loaded = (self.notes / "loaded").read_bytes()
        assert loaded[: len(INITRD)] == INITRD
        begin = -(-len(INITRD) // 4096) * 4096
        assert not any(loaded[len(INITRD) : begin])
        into = self.notes / "unpacked"
        into.mkdir()
        unpack = ["cpio", "-id", "--quiet", "-H", "newc"]
        subprocess.run(unpack, cwd=into, input=loaded[begin:], check=True)
        return into

    def state(self) -> str:
        """The Tailscale state that was handed over."""
        archive = self.handed_over() / "holdfast/tailscale-state.tar.gz"
        read = ["tar", "-xzOf", str(archive), "./tailscaled.state"]
        return subprocess.run(read, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["dash", "busybox sh", "busybox"])
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """An origin with dash, with busybox' shell, and one whose every tool is busybox, as Alpine's."""
    shell = request.param.split()
    found = shutil.which(shell[0])
    if found is None:
        pytest.skip(f"no {shell[0]} here")
    if request.param != "busybox":
        return Origin(tmp_path, shell)
    origin = Origin(tmp_path, ["busybox", "sh"])
    applets = subprocess.run([found, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in set(applets) - set(FAKE_TOOLS):
        (origin.tools / applet).symlink_to(found)
    return origin


def test_hands_over_and_leaves_no_trace(origin: Origin) -> None:
    before = origin.snapshot()
    status, out, _ = origin.run("--run-id", "run-1", "--dead-man-s", "600", "--hostname", "cottage")
    assert status == 0
    assert "machine will boot into nixos in 6s..." in out
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before
    tree = origin.handed_over()
    assert sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()) == [
        "addrs.json",
        "holdfast/hostname",
        "holdfast/resolv.conf",
        "holdfast/run.json",
        "holdfast/tailscale-state.tar.gz",
        "machine-id",
        "routes-v4.json",
        "routes-v6.json",
        "ssh/authorized_keys",
        "ssh/ssh_host_ed25519_key",
        "ssh/ssh_host_ed25519_key.pub",
    ]
    assert json.loads((tree / "holdfast/run.json").read_text()) == {
        "run_id": "run-1",
        "origin_boot_id": "11111111-2222",
        "dead_man_s": 600,
        "hostname": "cottage",
    }
    assert (tree / "ssh/ssh_host_ed25519_key").read_text() == "host " + POISON
    assert (tree / "ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (tree / "ssh").stat().st_mode & 0o777 == 0o700
    assert (tree / "holdfast/tailscale-state.tar.gz").stat().st_mode & 0o777 == 0o600
    assert (tree / "holdfast/resolv.conf").read_text() == "nameserver 192.0.2.53\n"


def test_packs_no_folder_that_would_be_the_installers_root(origin: Origin) -> None:
    origin.run()
    loaded = (origin.notes / "loaded").read_bytes()[-(-len(INITRD) // 4096) * 4096 :]
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=loaded, check=True, capture_output=True).stdout.split()
    assert listed[0] == b"ssh"
    assert b"." not in listed


def test_kexec_gets_the_flags(origin: Origin) -> None:
    origin.run("--kexec-extra-flags", "--reset-vga --no-ifdown")
    load = origin.calls()[0]
    assert load.startswith("--load ")
    assert " --kexec-syscall --reset-vga --no-ifdown " in load
    assert load.endswith(" --no-checks --command-line=init=/init panic=30 quiet")
    origin.wait_for("kexec", "\n-e --reset-vga --no-ifdown\n")


def test_a_kernel_that_refuses_is_asked_both_ways(origin: Origin) -> None:
    (origin.notes / "fail").touch()
    before = origin.snapshot()
    status, out, errors = origin.run()
    assert status == 1
    # What is told in one line is the errors, so the kernel's many lines are not among them.
    assert errors.splitlines()[-3:] == ["not this way"] * 2 + ["kexec/run: kexec could not load the installer"]
    assert "kernel said no" in out
    assert "machine will boot" not in out
    assert [call.split()[2] for call in origin.calls()[:2]] == ["--kexec-syscall", "--kexec-syscall-auto"]
    assert not any(call.startswith("-e") for call in origin.calls())
    assert origin.snapshot() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_trace_and_starts_nothing(origin: Origin, number: signal.Signals) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start()
    origin.wait_for("kexec", "--load")
    process.send_signal(number)
    (origin.notes / "hang").unlink()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "machine will boot" not in out
    assert origin.snapshot() == before
    assert origin.calls()[-1] == "--unload"


def test_a_killed_runs_tail_is_cut_off_by_the_next(origin: Origin) -> None:
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    process = origin.start()
    origin.wait_for("kexec", "--load")
    process.kill()
    (origin.notes / "hang").unlink()
    process.communicate(timeout=60)
    assert POISON.encode() in (origin.kexec / "initrd").read_bytes()
    assert origin.run()[0] == 0
    assert origin.snapshot() == before


def test_what_cannot_be_packed_leaves_no_trace(origin: Origin) -> None:
    (origin.kexec / "ip").write_text("#!/bin/sh\nexit 1\n")
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 1
    assert "could not pack addrs.json" in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


@needs_root
def test_a_prepared_archive_comes_first(origin: Origin) -> None:
    origin.archive("tmp/tailscale-state.tar.gz", "prepared")
    assert origin.run()[0] == 0
    assert origin.state() == "prepared"


def _link(archive: Path) -> None:
    archive.rename(archive.with_name("elsewhere"))
    archive.symlink_to("elsewhere")


def _folder(archive: Path) -> None:
    archive.unlink()
    archive.mkdir()


def _of_another_user(archive: Path) -> None:
    os.chown(archive, 1000, 0)


def _second_name(archive: Path) -> None:
    archive.with_name("second").hardlink_to(archive)


def _for_the_group(archive: Path) -> None:
    archive.chmod(0o620)


def _for_others(archive: Path) -> None:
    archive.chmod(0o602)


def _pipe(archive: Path) -> None:
    archive.unlink()
    os.mkfifo(archive)


def _dangling(archive: Path) -> None:
    archive.unlink()
    archive.symlink_to("nowhere")


def _zeros(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.truncate(2 << 30)


@needs_root
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_link, "not a regular file"),
        (_dangling, "not a regular file"),
        (_folder, "not a regular file"),
        (_pipe, "not a regular file"),
        (_of_another_user, "not owned by root"),
        (_second_name, "it has a second name"),
        (_for_the_group, "others may write to it"),
        (_for_others, "others may write to it"),
        (_zeros, "it has more than 67108864 bytes"),
    ],
)
def test_a_file_that_others_could_have_put_there_is_left_alone(
    origin: Origin, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(origin.archive("tmp/tailscale-state.tar.gz", "hostile"))
    status, _, errors = origin.run()
    assert status == 0
    assert f"tailscale-state.tar.gz is not used: {reason}" in errors
    assert POISON in origin.state()
    assert (origin.kexec / "initrd").read_bytes() == INITRD


Entry = tuple[str, bytes, str, bytes]
"""Name, kind, link, content of what is in an archive."""
STATE: Entry = ("./tailscaled.state", tarfile.REGTYPE, "", b"hostile")


def packed(*entries: Entry) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, link, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@needs_root
@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "not a tar.gz"),
        (b"no archive at all", "not a tar.gz"),
        (gzip.compress(b"no tar" * 500), "not a tar.gz"),
        (packed(STATE)[:-20], "not a tar.gz, or damaged"),
        (gzip.compress(gzip.decompress(packed(STATE, ("x", tarfile.REGTYPE, "", b"x" * 9999)))[:3000]), "or damaged"),
        (packed(("notes", tarfile.REGTYPE, "", b"x")), "has no tailscaled.state"),
        (packed(("tailscaled.state", tarfile.REGTYPE, "", b"")), "has no tailscaled.state, or an empty one"),
        (packed(STATE, ("/etc/x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("../x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("a/../../x", tarfile.REGTYPE, "", b"x")), "a path that leads out of it"),
        (packed(STATE, ("a/..", tarfile.DIRTYPE, "", b"")), "a path that leads out of it"),
        (packed(STATE, ("disk", tarfile.BLKTYPE, "", b"")), "links, devices"),
        (packed(STATE, ("tty", tarfile.CHRTYPE, "", b"")), "links, devices"),
        (packed(STATE, ("out", tarfile.SYMTYPE, "/etc", b"")), "links, devices"),
        (packed(STATE, ("twin", tarfile.LNKTYPE, "./tailscaled.state", b"")), "links, devices"),
        (packed(STATE, *[(f"f{n}", tarfile.REGTYPE, "", b"") for n in range(2000)]), "more than 2000 files"),
        (packed(STATE, ("x" * 262144, tarfile.REGTYPE, "", b"")), "very long names"),
        (gzip.compress(bytes(1 << 20)) * 2048, "more than 67108864 bytes"),
        (packed(("tailscaled.state", tarfile.REGTYPE, "", bytes(65 << 20))), "more than 67108864 bytes"),
    ],
)
def test_an_archive_that_the_installer_would_refuse_is_not_used(origin: Origin, archive: bytes, reason: str) -> None:
    path = origin.write("tmp/tailscale-state.tar.gz", "")
    path.write_bytes(archive)
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 0
    [line] = [line for line in errors.splitlines() if "is not used" in line]
    assert line.startswith(f"kexec/run: {path} is not used: it ")
    assert reason in line
    assert "hands over the Tailscale state in" in errors
    assert POISON in origin.state()
    loaded = (origin.notes / "loaded").read_bytes()
    assert not archive or archive not in loaded
    assert len(loaded) < len(INITRD) + 65536
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before


@needs_root
def test_an_archive_that_was_named_must_be_good(origin: Origin) -> None:
    archive = origin.archive("tmp/mine.tar.gz", "named")
    assert origin.run("--state", str(archive))[0] == 0
    assert origin.state() == "named"
    archive.chmod(0o666)
    status, _, errors = origin.run("--state", str(archive), "--allow-no-state")
    assert status == 1
    assert "others may write to it" in errors
    assert "--state: give a file that only root can write" in errors
    archive.chmod(0o600)
    archive.write_bytes(packed(STATE, ("out", tarfile.SYMTYPE, "/etc", b"")))
    before = origin.snapshot()
    status, _, errors = origin.run("--state", str(archive), "--allow-no-state")
    assert status == 1
    assert "links, devices" in errors
    assert "--state: give a tar.gz of /var/lib/tailscale" in errors
    assert origin.snapshot() == before


@needs_root
def test_a_refused_archive_and_no_live_state_stop_it(origin: Origin) -> None:
    origin.write("tmp/tailscale-state.tar.gz", "no archive at all")
    shutil.rmtree(origin.root / "var/lib/tailscale")
    before = origin.snapshot()
    status, _, errors = origin.run()
    assert status == 1
    assert "not a tar.gz" in errors
    assert "no Tailscale state found" in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


@needs_root
def test_a_swap_between_look_and_opening_is_seen(origin: Origin) -> None:
    """In a /tmp that is not sticky anybody can put another file of root in the place of the first."""
    archive = origin.archive("tmp/tailscale-state.tar.gz", "first")
    other = origin.archive("root/other.tar.gz", "other")
    tool = origin.tools / "stat"
    tool.unlink(missing_ok=True)
    swap = f"rm {archive}; cp {other} {archive}"
    tool.write_text(f'#!/bin/sh\ncase $* in *%d:%i*fd/3) {swap} ;; esac\nexec {shutil.which("stat")} "$@"\n')
    tool.chmod(0o755)
    status, _, errors = origin.run()
    assert status == 0
    assert "tailscale-state.tar.gz is not used: it was replaced meanwhile" in errors
    assert POISON in origin.state()


def test_a_live_state_that_cannot_be_handed_over_stops_it(origin: Origin) -> None:
    with (origin.root / "var/lib/tailscale/taildrop").open("wb") as file:
        file.truncate(65 << 20)
    before = (origin.kexec / "initrd").read_bytes()
    status, _, errors = origin.run("--allow-no-state")
    assert status == 1
    assert "var/lib/tailscale is not used: it holds more than 67108864 bytes" in errors
    assert "the Tailscale state of this system cannot be handed over" in errors
    assert origin.calls() == []
    assert (origin.kexec / "initrd").read_bytes() == before


def test_a_live_state_behind_links_is_handed_over_itself(origin: Origin) -> None:
    live = origin.root / "var/lib/tailscale"
    (origin.root / "persist").mkdir()
    (live / "tailscaled.state").rename(origin.root / "persist/tailscaled.state")
    (live / "tailscaled.state").symlink_to(origin.root / "persist/tailscaled.state")
    live.rename(origin.root / "persist/tailscale")
    live.symlink_to("../../persist/tailscale")
    assert origin.run()[0] == 0
    assert POISON in origin.state()


def test_without_state_it_stops_unless_told(origin: Origin) -> None:
    shutil.rmtree(origin.root / "var/lib/tailscale")
    status, _, errors = origin.run()
    assert status == 1
    assert "no Tailscale state found" in errors
    assert origin.calls() == []
    status, _, errors = origin.run("--allow-no-state")
    assert status == 0
    assert "will not be on the tailnet" in errors
    assert not (origin.handed_over() / "holdfast/tailscale-state.tar.gz").exists()


def test_state_none_hands_over_none(origin: Origin) -> None:
    assert origin.run("--state", "none")[0] == 0
    assert not (origin.handed_over() / "holdfast/tailscale-state.tar.gz").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sate", "x"], "unknown flag --sate"),
        (["--run-id"], "--run-id needs a value"),
        (["--run-id", 'a"b'], "--run-id: letters"),
        (["--dead-man-s", "soon"], "--dead-man-s: a number of seconds"),
        (["--dead-man-s", "0"], "--dead-man-s: a number of seconds"),
        (["--hostname", "a b"], "host name: letters"),
        (["--secrets"], "--secrets needs a value"),
        *((["--secrets", said], "--secrets: the number of bytes") for said in ("", "-", "0", "-1", "1k", "99999999")),
        (["--secrets", "2097153"], "--secrets: more than 2097152 bytes"),
    ],
)
def test_wrong_flags_are_named(origin: Origin, flags: list[str], message: str) -> None:
    status, _, errors = origin.run(*flags)
    assert status == 1
    assert message in errors
    assert origin.calls() == []


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


def test_name_servers_that_the_installer_cannot_reach_stay_out(origin: Origin) -> None:
    origin.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\nnameserver 100.100.100.100\n")
    origin.write("etc/resolv.conf", "search x\nnameserver 127.0.0.53\noptions edns0\nnameserver 192.0.2.1\n")
    origin.write("etc/resolv.pre-tailscale-backup.conf", "nameserver 2001:db8::53")
    assert origin.run()[0] == 0
    said = (origin.handed_over() / "holdfast/resolv.conf").read_text()
    assert said == "nameserver 192.0.2.1\nnameserver 2001:db8::53\n"


SECRET: Entry = ("portal", tarfile.REGTYPE, "", b"user=me&" + POISON.encode())


def plain(*entries: Entry) -> bytes:
    """A tar as the operator packs it."""
    return gzip.decompress(packed(*entries))


def test_secrets_are_handed_over_and_leave_no_trace(origin: Origin) -> None:
    before = origin.snapshot()
    content = plain(SECRET, ("_b.2-c", tarfile.REGTYPE, "", b"\0\n"))
    # A whole pipe or file may be longer.
    status, errors = origin.hand(content + b"more", "--secrets", str(len(content)))
    assert status == 0
    assert "hands over the secrets on standard input" in errors
    origin.wait_for("kexec", "-e")
    assert origin.snapshot() == before
    handed = origin.handed_over() / "holdfast/secrets.tar"
    assert handed.read_bytes() == content
    assert handed.stat().st_mode & 0o777 == 0o600
    # Nor are they in what it calls, or what it calls with.
    assert not any(POISON in call for call in origin.calls())


def test_without_the_flag_standard_input_is_not_read(origin: Origin) -> None:
    status, errors = origin.hand(plain(SECRET))
    assert status == 0
    assert origin.read == 0
    assert "secrets" not in errors
    assert not (origin.handed_over() / "holdfast/secrets.tar").exists()
    assert (origin.kexec / "initrd").read_bytes() == INITRD


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"", 1, "only 0 of 1 bytes came"),
        (plain(SECRET)[:700], 9000, "only 700 of 9700 bytes came"),
        (POISON.encode() * 100, 0, "not a tar"),
        (plain(), 0, "an empty or damaged one"),
        (plain(SECRET)[:700], 0, "damaged one"),
        (plain(SECRET, ("link", tarfile.SYMTYPE, "/etc/shadow", b"")), 0, "not plain files"),
        (plain(SECRET, ("twin", tarfile.LNKTYPE, "portal", b"")), 0, "not plain files"),
        (plain(SECRET, ("folder", tarfile.DIRTYPE, "", b"")), 0, "not plain files"),
        (plain(SECRET, ("pipe", tarfile.FIFOTYPE, "", b"")), 0, "not plain files"),
        *(
            (plain(SECRET, (name, tarfile.REGTYPE, "", b"x")), 0, "not a simple one")
            for name in ("/portal", "a/b", "./a", "../a", "..", ".a", "-a", "a b", "ä", "x" * 65)
        ),
        # busybox lists it as two lines.
        (plain(SECRET, ("a\nb c", tarfile.REGTYPE, "", b"x")), 0, "--secrets: the tar holds"),
        (plain(*((f"f{n}", tarfile.REGTYPE, "", b"") for n in range(65))), 0, "more than 64 files"),
    ],
)
def test_secrets_that_the_installer_would_refuse_stop_it(
    origin: Origin, content: bytes, more: int, reason: str
) -> None:
    before = origin.snapshot()
    status, errors = origin.hand(content, "--secrets", str(len(content) + more))
    assert status == 1
    assert reason in errors
    assert origin.calls() == []
    assert origin.snapshot() == before


def test_secrets_are_cut_off_by_the_next_start_if_it_is_killed(origin: Origin) -> None:
    shutil.rmtree(origin.root / "var/lib/tailscale")
    (origin.root / "etc/ssh/ssh_host_ed25519_key").unlink()
    before = origin.snapshot()
    (origin.notes / "hang").touch()
    with tempfile.TemporaryFile() as file:
        file.write(plain(SECRET))
        file.flush()
        file.seek(0)
        process = origin.start("--allow-no-state", "--secrets", str(len(plain(SECRET))), stdin=file.fileno())
        origin.wait_for("kexec", "--load")
        process.kill()
        (origin.notes / "hang").unlink()
        process.communicate(timeout=60)
    assert POISON.encode() in (origin.kexec / "initrd").read_bytes()
    assert origin.run("--allow-no-state")[0] == 0
    assert origin.snapshot() == before
