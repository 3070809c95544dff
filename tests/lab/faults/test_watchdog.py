"""A machine with a hardware watchdog, QEMU's i6300esb, hangs at five moments, and is reset. A healthy one is not.

The lab's image is started directly, without a tailnet: here it is origin and installer. Debian's kernels for clouds
have the driver since Debian 13, so the lab's usual origin has none.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from lab.image import KERNEL_PARAMS, image_folder
from lab.qemu import Hardware, Kernel, VirtualMachine

pytestmark = [pytest.mark.lab, pytest.mark.faults]

HARDWARE: Final = Hardware(more=("-device", "i6300esb", "-action", "watchdog=reset", "-no-reboot"))
START_S: Final = 600
# What is set to two minutes, and what the kernel and QEMU need besides.
FIRES_S: Final = 400
KEPT: Final = " watchdog.stop_on_reboot=0"
UNIT: Final = """\
[Unit]
DefaultDependencies=no
[Service]
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh /usr/lib/wd/script
"""
FED: Final = """
until [ "$(cat /sys/class/watchdog/watchdog0/state 2>/dev/null)" = active ]; do sleep 1; done
echo "fed: $(cat /sys/class/watchdog/watchdog0/timeout) s"
"""
HANG: Final = "echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger"
# A kernel that finds neither an init nor a root hangs, as it does not reboot.
NO_INIT: Final = "console=ttyS0 panic=0 rdinit=/nowhere root=/dev/nowhere"


def files(into: Path, script: str, manager: str = "") -> None:
    """Write a unit that runs a script early, and settings of systemd that go before the image's."""
    for folder in ("etc/systemd/system/sysinit.target.wants", "etc/systemd/system.conf.d", "usr/lib/wd"):
        (into / folder).mkdir(parents=True)
    (into / "usr/lib/wd/script").write_text(script)
    (into / "etc/systemd/system/wd.service").write_text(UNIT)
    (into / "etc/systemd/system/sysinit.target.wants/wd.service").symlink_to("../wd.service")
    (into / "etc/systemd/system.conf.d/wd.conf").write_text(f"[Manager]\n{manager}\n")


def packed(tree: Path, initrd: Path) -> None:
    """Append the tree to an initrd, as a second archive. Its folders have the image's modes, or the root would not."""
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))
    with initrd.open("ab") as out:
        out.write(bytes(-out.tell() % 4))
        out.flush()
        listed = "\n".join(names).encode()
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=listed, stdout=out, check=True)


class Machine:
    """The machine with the watchdog; its script says what it does on the console."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._seen = 0

    def start(self, parameters: str = KERNEL_PARAMS) -> None:
        kexec = image_folder() / "kexec"
        initrd = self.folder / "initrd"
        shutil.copy(kexec / "initrd", initrd)
        packed(self.tree, initrd)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        machine = VirtualMachine(
            disks=(),
            serial_log=self.folder / "serial.log",
            qmp=self.folder / "qmp",
            ssh_port=port,
            memory_mib=1536,
            cores=1,
            kernel=Kernel(kexec / "bzImage", initrd, f"init=/init {parameters}"),
            hardware=HARDWARE,
        )
        self._qemu = subprocess.Popen(machine.command())

    def stop(self) -> None:
        if self._qemu:
            self._qemu.terminate()
            self._qemu.wait()

    def until(self, text: str, deadline_s: float = START_S) -> None:
        """Wait until the console says this, after what it said before."""
        ends = time.monotonic() + deadline_s
        log = self.folder / "serial.log"
        while text not in (said := log.read_text(errors="replace") if log.exists() else "")[self._seen :]:
            assert self._qemu and self._qemu.poll() is None, (
                f"it was reset before {text!r}; its console: {said[-2000:]}"
            )
            assert time.monotonic() < ends, f"never {text!r}; its console: {said[-2000:]}"
            time.sleep(0.5)
        self._seen += said[self._seen :].index(text) + len(text)

    def fired(self, within_s: float) -> bool:
        """Return whether the watchdog fires within this time, as QEMU says it."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(within_s)
            link.connect(str(self.folder / "qmp"))
            link.sendall(b'{"execute": "qmp_capabilities"}\n')
            ends = time.monotonic() + within_s
            with suppress(TimeoutError), link.makefile() as lines:
                for line in lines:
                    if json.loads(line).get("event") == "WATCHDOG":
                        return True
                    link.settimeout(max(ends - time.monotonic(), 0.1))
        return False


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("wd"))
    try:
        yield machine
    finally:
        machine.stop()


def _origin(machine: Machine, parameters: str, script: str = "") -> None:
    """Let the image be an origin whose watchdog nobody uses, and start the next kernel from it by kexec/run."""
    # A unit that ends would take with it what waits to start kexec.
    start = "/usr/lib/wd/kexec/run --state none --allow-no-state 2>&1; sleep 600\n"
    files(machine.tree, start, "RuntimeWatchdogSec=off")
    kexec = machine.tree / "usr/lib/wd/kexec"
    shutil.copytree(image_folder() / "kexec", kexec)
    run = (kexec / "run").read_text()
    assert KERNEL_PARAMS in run
    assert "hop_s=300" in run
    (kexec / "run").write_text(run.replace(KERNEL_PARAMS, parameters).replace("hop_s=300", "hop_s=120"))
    if script:
        installer = machine.folder / "installer"
        files(installer, script)
        packed(installer, kexec / "initrd")
    machine.start(KERNEL_PARAMS.replace(KEPT, ""))
    machine.until("i6300esb will reset this machine")
    machine.until("machine will boot into nixos")


def test_the_installers_kernel_hangs_before_its_init(machine: Machine) -> None:
    _origin(machine, NO_INIT)
    machine.until("Kernel panic - not syncing: VFS")
    assert machine.fired(FIRES_S)


def test_an_installer_that_starts_feeds_what_kexec_run_has_armed(machine: Machine) -> None:
    _origin(machine, KERNEL_PARAMS, FED)
    machine.until("fed: 120 s")
    assert not machine.fired(240)


def _frozen() -> str:
    # Signals do not stop PID 1; the freezer of its own control group does.
    return f"{FED}\necho hangs; echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze"


def _crashed() -> str:
    return f"{FED}\necho hangs; {HANG}"


def _trial() -> str:
    # What load-final.sh writes.
    settings = "/run/systemd/system.conf.d/holdfast-trial.conf"
    return (
        f"{FED}\nmkdir -p {settings.rpartition('/')[0]}\n"
        f"printf '[Manager]\\nKExecWatchdogSec=120\\n' >{settings}\n"
        "systemctl daemon-reload\n"
        f"kexec --load --kexec-syscall /usr/lib/wd/bzImage --command-line='{NO_INIT}'\n"
        "echo hangs; systemctl kexec\n"
    )


def _reboot() -> str:
    hook = "/usr/lib/systemd/system-shutdown/hang"
    return (
        f"{FED}\nmkdir -p {hook.rpartition('/')[0]}; printf '#!/bin/sh\\n{HANG}\\n' >{hook}; chmod 755 {hook}\n"
        "echo hangs; systemctl reboot\n"
    )


@pytest.mark.parametrize("hang", [_frozen, _crashed, _trial, _reboot], ids=["PID 1", "installer", "trial", "reboot"])
def test_a_hang_is_ended(machine: Machine, hang: Callable[[], str]) -> None:
    files(machine.tree, hang(), "RebootWatchdogSec=2min")
    shutil.copy(image_folder() / "kexec" / "bzImage", machine.tree / "usr/lib/wd/bzImage")
    machine.start()
    machine.until("fed: 120 s")
    machine.until("hangs")
    assert machine.fired(FIRES_S)
