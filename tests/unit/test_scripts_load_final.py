"""load-final.sh: what it gives kexec, in a folder that stands for the new root."""

import base64
import os
import re
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script

SCRIPT = script("installer/load-final.sh")
TOP = "/nix/store/abc-nixos-system-cottage"
ENDS = "panic=10 boot.panic_on_fail systemd.crash_reboot systemd.crash_action=reboot holdfast.trial=600"


class Installer:
    """A new root with a system, and programs that take notes."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.shell, self.folder = shell, folder
        self.root, self.tools, self.live = folder / "mnt", folder / "tools", folder / "live"
        self.calls = folder / "calls"
        self.calls.touch()
        self.system = self.root / TOP.lstrip("/")
        for path in (self.system, self.root / "nix/store/k", self.tools, self.live / "sys/kernel"):
            path.mkdir(parents=True)
        (self.root / "nix/store/k/bzImage").write_text("kernel")
        (self.system / "kernel").symlink_to("/nix/store/k/bzImage")
        (self.system / "initrd").write_text("initrd")
        (self.system / "kernel-params").write_text("root=fstab loglevel=4")
        (self.live / "sys/kernel/kexec_loaded").write_text("1\n")
        self.tool(
            "kexec",
            f'for a; do echo "$a" >>{self.calls}; case $a in --initrd=*) cat "${{a#*=}}" >{folder}/initrd;; esac; done',
        )
        self.tool("mount", f'echo "mount $*" >>{self.calls}')
        self.tool("umount", f'echo "umount $*" >>{self.calls}; rm -f "$1/initrd"')
        self.tool("chroot", f'echo "chroot $*" >>{self.calls}; [ "$TMPDIR" = /run ] && printf secrets >>"$1$3"')

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, "-s", "--", *(arguments or (str(self.root), TOP, "600"))],
            env={"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.live)},
            input=SCRIPT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def command_line(self) -> str:
        return next(
            line.removeprefix("--command-line=")
            for line in self.calls.read_text().splitlines()
            if line.startswith("--command-line=")
        )


@pytest.fixture
def installer(shell: list[str], tmp_path: Path) -> Installer:
    return Installer(tmp_path, shell)


def test_loads_the_system_of_the_new_root(installer: Installer) -> None:
    done = installer.run()
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"no watchdog is armed for this start: there is no hardware watchdog\nloaded: {TOP}\n",
        "",
    )
    calls = installer.calls.read_text().splitlines()
    assert calls[:5] == [
        "--load",
        f"{installer.root}/nix/store/k/bzImage",
        "--kexec-syscall",
        "--no-checks",
        f"--initrd={installer.system}/initrd",
    ]
    line = installer.command_line()
    assert line.startswith(f"init={TOP}/init root=fstab loglevel=4 {ENDS} systemd.set_credential")
    assert line.endswith(" systemd.wants=holdfast-trial.service")


def test_watch_comes_with_the_command_line(installer: Installer) -> None:
    installer.run()
    match = re.search(r"=systemd\.extra-unit\.holdfast-trial\.service:(\S+)", installer.command_line())
    assert match
    unit = base64.b64decode(match[1], validate=True).decode().splitlines()
    assert f'ExecStart={TOP}/sw/bin/sh -c "sleep 600; systemctl --force reboot"' in unit
    assert f"Environment=PATH={TOP}/sw/bin" in unit
    assert "DefaultDependencies=no" in unit


def test_command_line_without_room_has_no_watch(installer: Installer) -> None:
    (installer.system / "kernel-params").write_text("x" * 1600)
    done = installer.run()
    assert "no room" in done.stdout
    assert installer.command_line().endswith(f" {ENDS}")


def test_a_pid_1_that_gives_up_ends_the_trial_whatever_the_system_says(installer: Installer) -> None:
    (installer.system / "kernel-params").write_text("systemd.crash_reboot=no systemd.crash_action=freeze")
    installer.run()
    words = installer.command_line().split()
    # systemd goes by the last.
    assert [word for word in words if word.startswith("systemd.crash")][-2:] == [
        "systemd.crash_reboot",
        "systemd.crash_action=reboot",
    ]


def test_secrets_of_the_initrd_are_added_in_memory(installer: Installer) -> None:
    (installer.system / "append-initrd-secrets").symlink_to("/nix/store/s/bin/append-initrd-secrets")
    assert installer.run().returncode == 0
    calls = installer.calls.read_text().splitlines()
    assert calls[0] == f"mount -t tmpfs -o mode=0700 holdfast-trial {installer.root}/run"
    assert calls[1] == f"chroot {installer.root} {TOP}/append-initrd-secrets /run/initrd"
    assert calls[-1] == f"umount {installer.root}/run"
    assert (installer.folder / "initrd").read_text() == "initrdsecrets"
    assert (installer.system / "initrd").read_text() == "initrd"


def test_a_locked_down_kernel_gets_the_other_call(installer: Installer) -> None:
    installer.tool("kexec", f'echo "$3" >>{installer.calls}; [ "$3" != --kexec-syscall ]')
    assert installer.run().returncode == 0
    assert installer.calls.read_text().splitlines() == ["--kexec-syscall", "--kexec-syscall-auto"]


def test_failures_say_why(installer: Installer) -> None:
    assert "not a number" in installer.run(str(installer.root), TOP, "1;reboot").stderr
    assert "usage" in installer.run(TOP).stderr
    (installer.live / "sys/kernel/kexec_loaded").write_text("0\n")
    assert "has loaded nothing" in installer.run().stderr
    installer.tool("kexec", "exit 1")
    assert "cannot load" in installer.run().stderr
    (installer.root / "nix/store/k/bzImage").unlink()
    done = installer.run()
    assert (done.returncode, done.stderr) == (1, f"load-final.sh: {TOP}/kernel is not at {installer.root}\n")
