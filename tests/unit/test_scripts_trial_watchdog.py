"""load-final.sh leaves the hardware watchdog armed for the trial only if the new system is certain to take it over."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_scripts_load_final import TOP, Installer
from tests.unit.watchdogs import Watchdogs

SETTINGS = "run/systemd/system.conf.d/holdfast-trial.conf"
TAKEN = " modules_load=iTCO_wdt watchdog.stop_on_reboot=0"
# Runs what is meant for the new system in its folder.
CHROOT = """echo "chroot $*" >>"$0.calls"; exec sh -c "$4" "$1$5" """


class Trial(Installer):
    """An installer whose systemd feeds a watchdog, before a new system that would take it over."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        super().__init__(folder, shell)
        self.watchdogs = Watchdogs(self.live, core="0", uses={"iTCO_wdt": 1})
        self.driver = "iTCO_wdt"
        self.files: dict[str, str] = {"state": "active", "timeout": "180"}
        self.kind, self.encryption = "ext4", "off"
        for name in ("sh", "cat", "ls"):
            found = shutil.which(name)
            assert found
            (self.system / "sw/bin").mkdir(parents=True, exist_ok=True)
            (self.system / "sw/bin" / name).symlink_to(found)
        self.new(
            "kernel-modules/lib/modules/6.12/modules.dep", "kernel/drivers/watchdog/iTCO_wdt.ko.xz: kernel/x.ko.xz"
        )
        self.new("etc/modprobe.d/nixos.conf", "options iTCO_wdt heartbeat=60")
        self.new("etc/systemd/system.conf", "[Manager]\nDefaultTimeoutStopSec=9s")
        self.new("etc/systemd/system/sshd.service", "")
        self.tool("chroot", CHROOT)
        self.tool("systemctl", f'echo "systemctl $*" >>{self.calls}')

    def new(self, path: str, text: str) -> None:
        """Write a file of the new system."""
        (self.system / path).parent.mkdir(parents=True, exist_ok=True)
        (self.system / path).write_text(text + "\n")

    def mapping(self, uuid: str) -> None:
        (self.live / "sys/block/dm-0/dm").mkdir(parents=True)
        (self.live / "sys/block/dm-0/dm/uuid").write_text(uuid + "\n")

    def say(self) -> str:
        """Load the new system; return what was said of the watchdog."""
        if self.driver:
            self.watchdogs.add(self.driver, **self.files)
        (self.live / "proc").mkdir(exist_ok=True)
        (self.live / "proc/mounts").write_text(f"proc /proc proc rw 0 0\ndisk {self.root} {self.kind} rw 0 0\n")
        self.tool("zfs", f"echo {self.encryption}")
        done = self.run()
        assert done.returncode == 0, done.stderr
        (said,) = (line for line in done.stdout.splitlines() if "watchdog" in line or "resets" in line)
        return said


@pytest.fixture
def trial(shell: list[str], tmp_path: Path) -> Trial:
    return Trial(tmp_path, shell)


def test_the_watchdog_stays_armed_and_the_new_system_takes_it_over(trial: Trial) -> None:
    assert trial.say() == "iTCO_wdt resets this machine if the new system does not take it over within 180 s"
    assert trial.command_line().endswith(f"{TAKEN} systemd.watchdog_sec=180")
    assert (trial.live / SETTINGS).read_text() == "[Manager]\nKExecWatchdogSec=180\n"
    assert trial.calls.read_text().splitlines()[-1] == "systemctl daemon-reload"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/systemd/system.conf", "[Manager]\nRuntimeWatchdogSec=20s"),
        ("etc/systemd/system.conf.d/mine.conf", "[Manager]\nRuntimeWatchdogSec=20s"),
        ("etc/systemd/system/watchdogd.service", ""),
    ],
)
def test_a_system_with_settings_of_its_own_feeds_it_by_those(trial: Trial, path: str, text: str) -> None:
    trial.new(path, text)
    assert "resets this machine" in trial.say()
    assert trial.command_line().endswith(TAKEN)


@pytest.mark.parametrize(("kind", "encryption"), [("xfs", ""), ("btrfs", ""), ("f2fs", ""), ("zfs", "off")])
def test_roots_that_need_nobody(trial: Trial, kind: str, encryption: str) -> None:
    trial.kind, trial.encryption = kind, encryption
    trial.mapping("LVM-abc")
    assert "resets this machine" in trial.say()


def _set(**values: object) -> Callable[[Trial], None]:
    def change(trial: Trial) -> None:
        for name, value in values.items():
            setattr(trial, name, value)

    return change


def _file(path: str, text: str) -> Callable[[Trial], None]:
    return lambda trial: trial.new(path, text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set(driver=""), "there is no hardware watchdog"),
        (_set(driver="bcm2835_wdt"), "the hardware of bcm2835_wdt is not known to count for minutes"),
        (_set(files={"state": "inactive", "timeout": "180"}), "this system does not feed iTCO_wdt"),
        (_set(files={"state": "active", "timeout": "180", "nowayout": "1"}), "decides by itself"),
        (lambda trial: setattr(trial.watchdogs, "core", "-1"), "decides by itself"),
        (lambda trial: setattr(trial.watchdogs, "core", None), "decides by itself"),
        (_set(files={"state": "active", "timeout": "60"}), "iTCO_wdt fires after 60 s"),
        (_file("kernel-modules/lib/modules/6.12/modules.dep", "kernel/it87_wdt.ko:"), "does not load iTCO_wdt"),
        (_file("etc/modprobe.d/mine.conf", "blacklist iTCO_wdt"), "does not load iTCO_wdt"),
        (_file("etc/modprobe.d/mine.conf", " install\tiTCO_wdt /bin/true"), "does not load iTCO_wdt"),
        (_file("kernel-params", "quiet module_blacklist=a,iTCO_wdt"), "does not load iTCO_wdt"),
        (_file("kernel-params", "x" * 1800), "the kernel's command line has no room for it"),
        (_set(kind="zfs", encryption="aes-256-gcm"), "its root may be encrypted"),
        (_set(kind="bcachefs"), "its root may wait for somebody"),
        (lambda trial: trial.mapping("CRYPT-LUKS2-abc-root"), "a disk of the new system is encrypted"),
    ],
)
def test_a_watchdog_that_may_not_be_taken_over_is_not_armed(
    trial: Trial, change: Callable[[Trial], None], why: str
) -> None:
    change(trial)
    said = trial.say()
    assert said.startswith("no watchdog is armed for this start: ")
    assert why in said
    assert "modules_load" not in trial.command_line()
    assert not (trial.live / SETTINGS).exists()
    assert "systemctl" not in trial.calls.read_text()


def test_what_an_earlier_try_left_is_taken_back(trial: Trial) -> None:
    (trial.live / SETTINGS).parent.mkdir(parents=True)
    (trial.live / SETTINGS).write_text("[Manager]\nKExecWatchdogSec=180\n")
    trial.kind = "bcachefs"
    assert trial.say().startswith("no watchdog")
    assert not (trial.live / SETTINGS).exists()
    assert trial.calls.read_text().splitlines()[-1] == "systemctl daemon-reload"


def test_a_kernel_that_cannot_be_loaded_leaves_the_settings(trial: Trial) -> None:
    trial.tool("kexec", "exit 1")
    trial.watchdogs.add("iTCO_wdt", **trial.files)
    (trial.live / "proc").mkdir()
    (trial.live / "proc/mounts").write_text(f"disk {trial.root} ext4 rw 0 0\n")
    assert trial.run(str(trial.root), TOP, "600").returncode == 1
    assert not (trial.live / SETTINGS).exists()
