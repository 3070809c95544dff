"""The starter: it finds the installer on the new root, and starts it only if it is what was written there."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script

FILES = {"kernel": b"a kernel", "initrd": b"an initrd ", "handover": b"and its hand-over"}
SEARCH_S = 24  # the script waits longer
UUID = "0123-abcd"
LINE = "init=/nix/store/x/init  console=ttyS0 a=$(touch x) panic=30"


class Starter:
    """A starter in folders, whose programs play along. A device's files lie in the folder of its name."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder = folder
        self.shell = shell
        self.live = folder / "starter"
        self.tools = folder / "tools"
        self.calls = folder / "calls"
        self.told = {"type": "ext4", "id": UUID, "folder": "/.holdfast-standby", "line": LINE}
        self.told |= {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
        for path in (self.tools, self.live / "dev", self.live / "proc/sys/kernel", self.live / "run"):
            path.mkdir(parents=True)
        (self.live / "proc/sys/kernel/panic").write_text("0\n")
        (self.live / "dev/kmsg").touch()
        self.calls.touch()
        self.names: list[str] = []
        for name in ("reboot", "sync", "modprobe", "mdadm", "lvm", "zpool"):
            self.tool(name, "")
        self.tool("btrfs", "")
        self.tool("sleep", f"echo slept >>{folder}/slept")
        self.tool("kexec", f'case $* in *--initrd=*) cat "$live_ram/initrd" >{folder}/started ;; esac')
        self.tool("blkid", f"cat {folder}/${{6##*/}}.uuid 2>/dev/null")
        self.tool("umount", f"rm -rf {self.live}/run/disk/* {self.live}/run/disk/.h*")
        self.tool(
            "mount",
            f"""case $2 in proc | sysfs | devtmpfs | tmpfs) exit 0 ;; esac
            [ ! -e {folder}/refused ] || ! grep -qx "$4" {folder}/refused || exit 32
            cp -a {folder}/${{5##*/}}/. {self.live}/run/disk/""",
        )
        self.tool("mount.zfs", f"cp -a {folder}/pool/. {self.live}/run/disk/")

    def tool(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(f'#!/bin/sh\nlive_ram={self.live}/run/ram\necho "{name} $*" >>{self.calls}\n{text}\n')
        path.chmod(0o755)

    def disk(self, name: str, *, uuid: str = UUID, files: dict[str, bytes] | None = None) -> Path:
        """Plug a disk in, with the installer or with other files."""
        store = self.folder / name / self.told["folder"].lstrip("/")
        store.mkdir(parents=True)
        for file, content in (FILES if files is None else files).items():
            (store / (f"handover.{self.told['handover'][:12]}" if file == "handover" else file)).write_bytes(content)
        (self.folder / f"{name}.uuid").write_text(f"{uuid}\n")
        (self.live / "dev" / name).touch()
        self.names.append(name)
        rows = "".join(f" 8 0 1000 {name}\n" for name in self.names)
        (self.live / "proc/partitions").write_text(f"major minor  #blocks  name\n\n{rows}")
        return store

    def run(self, known: str | None = None, *, before: str = "") -> subprocess.CompletedProcess[str]:
        cred = self.live / ".extra/credentials/standby.cred"
        cred.parent.mkdir(parents=True)
        cred.write_text("".join(f"{word} {value}\n" for word, value in self.told.items()) if known is None else known)
        env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.live)}
        path = self.folder / "init"
        text = script("installer/starter.sh")
        assert "search_s=180 " in text
        path.write_text(before + text.replace("search_s=180 ", f"search_s={SEARCH_S} "))
        return subprocess.run(
            [*self.shell, str(path)], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def said(self) -> str:
        return (self.live / "dev/kmsg").read_text()

    def called(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.split(" ")[0] == name]

    @property
    def started(self) -> bool:
        return "kexec -e" in self.called("kexec")


@pytest.fixture
def starter(shell: list[str], tmp_path: Path) -> Starter:
    return Starter(tmp_path, shell)


def test_starts_the_installer_with_its_handover_and_command_line(starter: Starter) -> None:
    starter.disk("vda1", uuid="another")
    starter.disk("vda2")
    starter.run()
    assert starter.started, starter.said
    ram = starter.live / "run/ram/initrd"
    assert starter.called("kexec")[0] == (
        f"kexec --kexec-syscall --load {starter.live}/run/disk/.holdfast-standby/kernel --no-checks --initrd={ram}"
        f" --command-line={LINE}"
    )
    assert (starter.folder / "started").read_bytes() == FILES["initrd"] + FILES["handover"]
    # It is unmounted before the other kernel starts.
    calls = starter.calls.read_text().splitlines()
    assert calls.index(f"umount {starter.live}/run/disk") < calls.index("kexec -e")
    assert (starter.live / "proc/sys/kernel/panic").read_text() == "30\n"
    assert not (starter.folder / "x").exists()


def test_kernel_is_told_the_path_of_modprobe_by_a_shell_that_knows_the_command_itself(starter: Starter) -> None:
    starter.disk("vda2")
    init = 'modprobe() { command modprobe "$@"; }\n'  # as a command of busybox in its own shell
    starter.run(before=init)
    assert (starter.live / "proc/sys/kernel/modprobe").read_text() == f"{starter.tools}/modprobe\n"


def test_disk_is_mounted_read_only_and_without_its_journal_only_if_it_must_be(starter: Starter) -> None:
    starter.disk("vda2")
    (starter.folder / "refused").write_text("ro\n")
    starter.run()
    assert starter.started
    options = [call.split()[4] for call in starter.called("mount") if "vda2" in call]
    assert options == ["ro", "ro,noload"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"changed"])
def test_what_has_changed_is_not_started(starter: Starter, name: str, content: bytes) -> None:
    starter.disk("vda2", files=FILES | {name: content})
    done = starter.run()
    assert not starter.called("kexec")
    assert f"{name if name != 'handover' else 'handover.'}" in starter.said
    assert "has changed" in starter.said
    assert done.returncode == 1
    assert "the installer was not found within 24 s: the machine reboots" in starter.said


@pytest.mark.parametrize("lacking", FILES)
def test_what_lacks_a_file_is_not_started(starter: Starter, lacking: str) -> None:
    starter.disk("vda2", files={name: content for name, content in FILES.items() if name != lacking})
    assert starter.run().returncode == 1
    assert not starter.called("kexec")
    assert " is not on " in starter.said


def test_another_disk_with_the_same_file_system_does_not_hide_the_right_one(starter: Starter) -> None:
    starter.disk("sda1", files=dict.fromkeys(FILES, b"of an earlier install"))
    starter.disk("sdb1")
    starter.run()
    assert starter.started
    assert starter.said.count("has changed") == 1


def test_disk_that_comes_late_is_waited_for(starter: Starter) -> None:
    starter.disk("vda1", uuid="another")
    store = starter.disk("vda2")
    late = starter.live / "dev/vda2"
    late.unlink()
    starter.tool("sleep", f"[ $(grep -c '^sleep 1$' {starter.calls}) -lt 5 ] || touch {late}")
    starter.run()
    assert starter.started
    assert store.exists()
    assert not [call for call in starter.called("mdadm") if "--run" in call]


def test_array_is_started_without_a_missing_member_after_a_while(starter: Starter) -> None:
    starter.disk("vda1", uuid="another")
    starter.run()
    calls = starter.called("mdadm")
    assert calls[:2] == ["mdadm --incremental --quiet /dev/vda1"] * 2
    assert calls.index("mdadm --incremental --run --scan --quiet") == 21
    assert calls.count("mdadm --incremental --run --scan --quiet") == SEARCH_S + 1 - 20


def test_btrfs_is_looked_at_from_its_top(starter: Starter) -> None:
    starter.told |= {"type": "btrfs", "folder": "/@nix/.holdfast-standby"}
    starter.disk("vda2")
    starter.run()
    assert starter.started
    assert [call.split()[4] for call in starter.called("mount") if "vda2" in call] == ["ro,subvolid=5"]


def test_zfs_is_imported_read_only_and_exported(starter: Starter) -> None:
    starter.told |= {"type": "zfs", "id": "1234567", "dataset": "pool/nix"}
    starter.disk("pool")
    starter.run()
    assert starter.started
    assert starter.called("zpool") == [
        "zpool import -N -o readonly=on -o cachefile=none -f 1234567",
        "zpool export pool",
    ]
    assert starter.called("mount.zfs") == [f"mount.zfs -o ro,zfsutil pool/nix {starter.live}/run/disk"]


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "ext4;reboot"},
        {"type": ""},
        {"id": "a b"},
        {"id": "$(touch x)"},
        {"id": "x" * 65},
        {"folder": "relative"},
        {"folder": "/a/../b"},
        {"folder": "/a b"},
        {"kernel": "0" * 63},
        {"kernel": "G" * 64},
        {"initrd": ""},
        {"handover": "../" + "0" * 61},
        {"line": ""},
        {"type": "zfs"},
        {"type": "zfs", "dataset": "a b"},
    ],
)
def test_what_is_incomplete_or_strange_is_refused(starter: Starter, changed: dict[str, str]) -> None:
    starter.disk("vda2")
    starter.told |= changed
    assert starter.run().returncode == 1
    assert not starter.started
    assert starter.said.endswith(": the machine reboots\n")
    assert not starter.called("blkid")


def test_nothing_to_know_ends_it(starter: Starter) -> None:
    assert starter.run("").returncode == 1
    assert "incomplete" in starter.said


def test_kexec_that_fails_ends_it(starter: Starter) -> None:
    starter.disk("vda2")
    starter.tool("kexec", "exit 255")
    assert starter.run().returncode == 1
    assert [call.split()[1] for call in starter.called("kexec")] == ["--kexec-syscall", "--kexec-syscall-auto"]
    assert "kexec cannot load the installer: the machine reboots" in starter.said


def test_whatever_hangs_is_ended_by_the_guard(starter: Starter) -> None:
    starter.disk("vda2")
    rebooted = starter.folder / "rebooted"
    starter.tool("reboot", f"touch {rebooted}")
    starter.tool("mount", f"case $2 in ext4) while [ ! -e {rebooted} ]; do command sleep 0.05; done; exit 32 ;; esac")
    starter.tool("sleep", "")
    starter.run()
    assert starter.called("sleep")[0] == "sleep 600"
    assert rebooted.exists()
    assert "nothing was started within 600 s" in starter.said
