"""The lab's layouts with an encrypted root: the disk is made and mounted again, and the initrd opens it.

The kernel is User-mode Linux (lab/uml.py), which needs no lab: neither an install nor a boot loader is shown here.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.final import FLAKE, LAYOUTS, flake_dir, inputs
from lab.nix import nix_wrapper
from lab.uml import machine_command, module, root_in
from tests.lab.matrix.opening import ASKPASS, FILES, KEY, KNOWN_INITRD, bring, type_passphrase
from tests.lab.matrix.table import PASSPHRASE, kind_of

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

DEADLINE_S = 900
GUEST = Path(__file__).with_name("encrypted.sh")
MODULES = ("xts", "af_alg", "algif_skcipher", "ecb", "cbc", "encrypted-keys", "dm-mod", "dm-crypt")
CHARACTERS = ("fat", "vfat", "nls_cp437", "nls_iso8859-1")
ADDRESS = "10.9.0.2"
LEASES = """\
start 10.9.0.2
end 10.9.0.2
interface tap0
max_leases 1
option subnet 255.255.255.0
"""


@dataclass(frozen=True)
class Machine:
    """A machine with a disk, in a folder that has all that it needs, and in a network of its own."""

    folder: Path
    inside: tuple[str, ...]

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        command = [*self.inside, *machine_command(f"ubd0={self.folder / 'disk'}", *words)]
        with self.console.open("wb") as console:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True
            )

    def end(self, running: "subprocess.Popen[bytes]") -> str:
        """Wait until it has switched itself off, and return what it printed."""
        try:
            running.wait(DEADLINE_S)
        finally:
            # Each process of that kernel is one here, and outlives it.
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
        return self.console.read_text(errors="replace").replace("\r", "")

    @property
    def console(self) -> Path:
        return self.folder / "console"


@contextmanager
def network() -> Iterator[tuple[str, ...]]:
    """A network of its own, with a tap for the machine; hand out the command that runs another one in it."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
    inside = ("nsenter", "-t", str(holder.pid), "-n")
    try:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.1)
        for words in (
            "tuntap add tap0 mode tap",
            "address add 10.9.0.1/24 dev tap0",
            "link set tap0 up",
            "link set lo up",
        ):
            subprocess.run([*inside, "ip", *words.split()], check=True)
        yield inside
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun here: the machine has no network without it")
    (tmp_path / KEY).parent.mkdir(parents=True)
    (tmp_path / KEY).write_text(os.urandom(24).hex())
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "operator_key")], check=True)
    with network() as inside:
        yield Machine(tmp_path, inside)


def system(folder: Path, layout: str) -> Path:
    """Build the layout's system, and return it in the store below the folder."""
    flake = flake_dir(folder, layout)
    name = f"path:{flake}#nixosConfigurations.cottage.config.system.build.toplevel"
    built = subprocess.run(
        [str(nix_wrapper(folder) / "nix"), "build", "--no-link", "--json", name], check=True, stdout=subprocess.PIPE
    )
    return in_store(folder, json.loads(built.stdout)[0]["outputs"]["out"])


def in_store(folder: Path, path: str) -> Path:
    return folder / "nix" / path.lstrip("/")


def make_disk(machine: Machine, layout: str) -> str:
    """Let the layout's scripts make the disk in the machine; return what that printed."""
    folder = machine.folder
    with (folder / "disk").open("wb") as disk:
        disk.truncate(700 << 20)
    (folder / "tools").mkdir()
    subprocess.run(["tar", "-C", str(folder / "tools"), "-xf", str(inputs() / "luks.tar")], check=True)
    (folder / "bin").mkdir()
    shutil.copy(inputs() / "busybox/busybox", folder / "bin")
    (folder / "bin/cryptsetup").symlink_to(folder / "tools/bin/cryptsetup")
    for name in ("udevadm", "modprobe"):  # there is no udev, and the modules are loaded
        (folder / "bin" / name).write_text("#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    uuid = (LAYOUTS / layout / "default.nix").read_text().partition('uuid = "')[2].partition('"')[0]
    values = {"@uuid@": uuid, "@tools@": f"{folder}/tools", "@disk@": "/run/disk"}
    values |= {"@storage@": f"{folder}/storage.sh", "@mountScript@": f"sh {folder}/disko-mount.sh"}
    scripts = [FLAKE / "scripts/disko.sh", FLAKE / "scripts/disko-mount.sh", LAYOUTS / layout / "storage.sh"]
    for script in scripts:
        text = script.read_text()
        for name, value in values.items():
            text = text.replace(name, value)
        (folder / script.name).write_text(text)
    (folder / "modules").mkdir()
    for number, name in enumerate((*MODULES, *CHARACTERS)):
        shutil.copy(module(name), folder / "modules" / f"{number:02}-{name}.ko")
    return machine.end(machine.start(*root_in(Path("/")), "init=/bin/sh", "--", str(GUEST), str(folder)))


def initrd_of(folder: Path, top: Path) -> Path:
    """Return the system's initrd with the machine's secrets, appended by its own script, and that kernel's modules."""
    initrd = folder / "initrd"
    shutil.copy(in_store(folder, str((top / "initrd").readlink())), initrd)
    initrd.chmod(0o600)
    text = (top / "append-initrd-secrets").read_text().replace("/nix/store/", f"{folder}/nix/nix/store/")
    (folder / "append").write_text(text.replace("=/etc/secrets/", f"={folder / FILES}/etc/secrets/"))
    (folder / "append").chmod(0o755)
    subprocess.run([str(folder / "append"), str(initrd)], check=True)
    modules = folder / "more/modules"
    modules.mkdir(parents=True)
    for name in MODULES:
        shutil.copy(module(name), modules)
    (modules / "order").write_text("".join(f"{name}.ko\n" for name in MODULES))
    pack = "find modules | cpio -o -H newc --quiet | gzip -1"
    with initrd.open("ab") as out:
        subprocess.run(["sh", "-c", pack], cwd=modules.parent, stdout=out, check=True)
    return initrd


@contextmanager
def leases(machine: Machine) -> Iterator[None]:
    (machine.folder / "leases").touch()
    (machine.folder / "leases.conf").write_text(f"{LEASES}lease_file {machine.folder}/leases\n")
    program = [
        *machine.inside,
        str(machine.folder / "bin/busybox"),
        "udhcpd",
        "-f",
        str(machine.folder / "leases.conf"),
    ]
    server = subprocess.Popen(program)
    try:
        yield
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("layout", ["luks-keyfile", "luks-passphrase"])
def test_encrypted_root_is_made_and_opened(machine: Machine, layout: str) -> None:
    folder, how = machine.folder, kind_of(layout).opened_by
    bring(folder, how)
    said = make_disk(machine, layout)
    boot = "vfat" if how != PASSPHRASE else "ext4"
    assert f"MOUNTED /mnt ext4 /dev/mapper/root /mnt/boot {boot} /dev/ubda1" in said, said
    assert "\nMADE\n" in said, said
    initrd = initrd_of(folder, system(folder, layout))
    words = (
        f"initrd={initrd}",
        "eth0=tuntap,tap0",
        "init=/init",
        "root=/dev/mapper/root",
        "rootfstype=ext4",
        "panic=1",
    )
    with leases(machine):
        running = machine.start(*words)
        try:
            if how == PASSPHRASE:
                open_over_ssh(machine)
        finally:
            said = machine.end(running)
    # Nothing of the SSH server goes on in the new system.
    assert "\n0\nSTARTED /dev/mapper/root / ext4" in said, said


def open_over_ssh(machine: Machine) -> None:
    folder = machine.folder
    # fmt: off
    command = [
        *machine.inside, "ssh", "-tt", "-F", "/dev/null", "-i", str(folder / "operator_key"),
        "-o", f"UserKnownHostsFile={folder / KNOWN_INITRD}", "-o", "HostKeyAlias=cottage", "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5", f"root@{ADDRESS}", ASKPASS,
    ]
    # fmt: on
    ends = time.monotonic() + DEADLINE_S
    while "No key available" not in (said := type_passphrase(command, b"not the passphrase")):
        assert said, "it takes any passphrase"
        assert time.monotonic() < ends, said
        time.sleep(1)
    assert type_passphrase(command, (folder / KEY).read_bytes()) == ""
