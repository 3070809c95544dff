"""An origin in a folder, with a kexec and an ip that only take notes, for the tests of kexec/run."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
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
    "uname": "echo machine-7",
}
KINDS = ("dash", "busybox sh", "busybox")


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
        self._program(self.kexec / "run", text.replace("@watchdogDrivers@", "hpwdt i6300esb iTCO_wdt"))
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

    def replace(self, name: str, body: str) -> None:
        """Let a tool be this shell script."""
        (self.tools / name).unlink(missing_ok=True)  # a link to busybox
        self._program(self.tools / name, f"#!/bin/sh\n{body}\n")

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


def made_origin(kind: str, folder: Path) -> Origin:
    """Return an origin with dash, with busybox' shell, or one whose every tool is busybox, as Alpine's."""
    shell = kind.split()
    found = shutil.which(shell[0])
    if found is None:
        pytest.skip(f"no {shell[0]} here")
    if kind != "busybox":
        return Origin(folder, shell)
    origin = Origin(folder, ["busybox", "sh"])
    applets = subprocess.run([found, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in set(applets) - set(FAKE_TOOLS):
        (origin.tools / applet).symlink_to(found)
    return origin


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
