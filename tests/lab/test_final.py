"""The lab's final system alone: built by Nix, installed on an empty disk from the installer, booted from that disk.

There is no tailnet: SSH goes through QEMU's port forwarding.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import final, image, qemu
from lab.nix import FAULT, closure_copies_fail, nix_wrapper

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

CONFIG = "nixosConfigurations.cottage.config"
BOOT_S = 120
COMMAND_S = 120


class Operator:
    """The flake, Nix and a key, in a folder like lab/run."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        for name in ("operator_key", "host_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
            subprocess.run([*keygen, str(run_dir / name)], check=True)
        self.flake = f"path:{final.flake_dir(run_dir)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        host_key = (run_dir / "host_key.pub").read_text()
        (run_dir / "known_hosts").write_text(f"cottage {host_key}")
        self.ssh_config = run_dir / "ssh_config"
        self.ssh_config.write_text(
            f"Host cottage\n HostName 127.0.0.1\n Port {self.port}\n User root\n HostKeyAlias cottage\n"
            f" IdentityFile {run_dir}/operator_key\n UserKnownHostsFile {run_dir}/known_hosts\n"
            " StrictHostKeyChecking yes\n BatchMode yes\n ConnectTimeout 5\n"
        )

    def nix(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = f"{nix_wrapper(self.run_dir)}:{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "NIX_SSHOPTS": f"-F {self.ssh_config}"}
        command = [str(nix_wrapper(self.run_dir) / "nix"), *arguments]
        return subprocess.run(command, env=env, check=check, stdout=subprocess.PIPE, text=True, timeout=COMMAND_S)

    def build(self, attribute: str) -> str:
        return self.nix("build", "--no-link", "--print-out-paths", f"{self.flake}#{CONFIG}.{attribute}").stdout.strip()

    def ssh(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", str(self.ssh_config), "cottage", *command]
        return subprocess.run(argv, check=check, stdout=subprocess.PIPE, text=True, timeout=COMMAND_S)

    def wait(self, serial_log: Path) -> None:
        ends = time.monotonic() + BOOT_S
        while self.ssh("true", check=False).returncode:
            if time.monotonic() > ends:
                tail = serial_log.read_text(errors="replace")[-3000:]
                raise AssertionError(f"no SSH after {BOOT_S} s; the serial port ends with:\n{tail}")
            time.sleep(0.5)


@contextmanager
def application_fails(operator: Operator) -> Iterator[None]:
    """Let the machine's application fail while the body runs."""
    try:
        operator.ssh("touch /var/lib/cottage-app/fail; systemctl restart cottage-app.service", check=False)
        yield
    finally:
        operator.ssh("rm -f /var/lib/cottage-app/fail; systemctl restart cottage-app.service", check=False)


@contextmanager
def running(machine: qemu.VirtualMachine) -> Iterator[None]:
    with subprocess.Popen(machine.command()) as process:
        try:
            yield
        finally:
            process.terminate()


def archive(folder: Path, names: Sequence[str]) -> bytes:
    """Pack files as kexec/run packs the hand-over."""
    pack = ["cpio", "-o", "-H", "newc", "--quiet"]
    return subprocess.run(pack, cwd=folder, input="\n".join(names).encode(), check=True, stdout=subprocess.PIPE).stdout


def installer_initrd(operator: Operator) -> Path:
    hand_over = operator.run_dir / "hand-over"
    (hand_over / "ssh").mkdir(parents=True)
    shutil.copy(operator.run_dir / "operator_key.pub", hand_over / "ssh" / "authorized_keys")
    shutil.copy(operator.run_dir / "host_key", hand_over / "ssh" / "ssh_host_ed25519_key")
    initrd = operator.run_dir / "initrd"
    packed = (image.image_folder() / "kexec" / "initrd").read_bytes()
    shutil.copy(operator.run_dir / "host_key.pub", hand_over / "ssh" / "ssh_host_ed25519_key.pub")
    names = ["ssh", *(f"ssh/{file.name}" for file in (hand_over / "ssh").iterdir())]
    initrd.write_bytes(packed + bytes(-len(packed) % 4) + archive(hand_over, names))
    return initrd


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def toplevel(operator: Operator) -> str:
    return operator.build("system.build.toplevel")


@pytest.fixture(scope="module")
def installed(operator: Operator, toplevel: str) -> Iterator[None]:
    """Install from the installer, as the flow does; then boot from the disk."""
    disk = operator.run_dir / "disk.qcow2"
    qemu.make_disk(disk, 3 << 30)
    kernel = qemu.Kernel(
        image=image.image_folder() / "kexec" / "bzImage",
        initrd=installer_initrd(operator),
        command_line=f"init=/init {image.KERNEL_PARAMS}",
    )
    disks = (qemu.Disk(disk, "COTTAGE0001"),)
    log = operator.run_dir / "serial.log"
    qmp = operator.run_dir / "qmp"
    with running(qemu.VirtualMachine(disks, log, qmp, operator.port, kernel=kernel)):
        operator.wait(log)
        install(operator, toplevel)
    with running(qemu.VirtualMachine(disks, log, qmp, operator.port)):
        operator.wait(log)
        yield


def install(operator: Operator, toplevel: str) -> None:
    disko = operator.build("system.build.diskoScript")
    mount = operator.build("system.build.mountScript")
    copy = ("copy", "--no-check-sigs", "--to")
    operator.nix(*copy, "ssh-ng://cottage", disko)
    operator.ssh(disko)
    operator.ssh(disko)
    operator.ssh("umount -R /mnt")
    operator.ssh(mount)
    operator.ssh(mount)
    early = operator.ssh(f"nixos-install --system {toplevel} 2>&1; ls -A /mnt", check=False).stdout
    assert f"nixos-install: {toplevel} is not in the store of /mnt: copy the closure first" in early
    assert "etc" not in early.split()
    operator.nix(*copy, "ssh-ng://cottage?remote-store=local%3Froot=/mnt", toplevel)
    operator.ssh(f"nixos-install --no-root-passwd --no-channel-copy --system {toplevel}")
    operator.ssh(f"nixos-install --no-root-passwd --no-channel-copy --system {toplevel}")
    operator.ssh("cp -a /etc/ssh/ssh_host_* /mnt/etc/ssh/ && umount -R /mnt")


def boot_id(operator: Operator) -> str:
    return operator.ssh("cat /proc/sys/kernel/random/boot_id", check=False).stdout


def test_flake_has_the_shape_of_a_nixos_flake_with_disko(operator: Operator) -> None:
    devices = json.loads(operator.nix("eval", "--json", f"{operator.flake}#{CONFIG}.disko.devices").stdout)
    assert devices["disk"]["main"]["type"] == "disk"
    assert devices["disk"]["main"]["device"] == "/dev/disk/by-id/virtio-COTTAGE0001"
    platform = operator.nix("eval", "--raw", f"{operator.flake}#{CONFIG}.nixpkgs.hostPlatform.system").stdout
    assert platform == "x86_64-linux"


def test_nix_leaves_nothing_on_this_machine(operator: Operator, toplevel: str) -> None:
    before = Path("/proc/self/mounts").read_text()
    assert toplevel.startswith("/nix/store/")
    assert operator.nix("path-info", toplevel).stdout.strip() == toplevel
    assert Path("/proc/self/mounts").read_text() == before
    assert not Path(toplevel).exists()


def test_nix_passes_the_exit_status_and_the_working_folder(operator: Operator) -> None:
    assert operator.nix("build", "--no-link", f"{operator.flake}#nothing", check=False).returncode == 1
    here = operator.nix("eval", "--impure", "--raw", "--expr", 'builtins.getEnv "PWD"').stdout
    assert here == str(Path.cwd())


@pytest.mark.parametrize("named", [False, True])
def test_closure_copy_fails_on_demand_and_other_copies_do_not(
    operator: Operator, toplevel: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], named: bool
) -> None:
    name = "passing fault" if named else FAULT
    if named:
        monkeypatch.setenv("HOLDFAST_LAB_FAIL_COPY", str(operator.run_dir / name))
    with closure_copies_fail(operator.run_dir, name) as fault:
        to_root = "ssh-ng://cottage?remote-store=local%3Froot=/mnt"
        assert operator.nix("copy", "--no-check-sigs", "--to", to_root, toplevel, check=False).returncode == 1
        assert capfd.readouterr().err == f"nix: the lab was told to fail here ({fault})\n"
        operator.nix("copy", "--no-check-sigs", "--to", f"{operator.run_dir}/other-store", toplevel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "/nix/store/x", "--no-flake"], "unknown option --no-flake"),
        (["--no-root-passwd"], "--system is missing"),
        (["--system"], "--system needs a value"),
        (["--system", "/nix/store/x", "--root", "/proc/nowhere"], "nothing is mounted at /proc/nowhere"),
    ],
)
def test_nixos_install_refuses_what_the_real_one_would(arguments: list[str], message: str) -> None:
    script = Path(final.__file__).parent / "nixos-install"
    done = subprocess.run(["sh", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"nixos-install: {message}"


@pytest.mark.usefixtures("installed")
def test_installed_system_boots_from_its_own_disk(operator: Operator, toplevel: str) -> None:
    assert operator.ssh("readlink /run/current-system").stdout.strip() == toplevel
    assert operator.ssh("readlink /run/booted-system").stdout.strip() == toplevel
    assert operator.ssh("readlink /nix/var/nix/profiles/system").stdout.strip() == "system-1-link"
    assert operator.ssh("test -e /etc/NIXOS", check=False).returncode == 0


@pytest.mark.usefixtures("installed")
def test_installed_system_is_clean_until_its_application_fails(operator: Operator) -> None:
    assert operator.ssh("systemctl is-system-running --wait").stdout.strip() == "running"
    failed = "systemctl list-units --failed --plain --no-legend"
    assert operator.ssh(failed).stdout == ""
    with application_fails(operator):
        assert operator.ssh(failed).stdout.split()[0] == "cottage-app.service"


@pytest.mark.usefixtures("installed")
def test_installed_system_has_a_tailscale_that_waits_for_its_state(operator: Operator) -> None:
    status = json.loads(operator.ssh("tailscale status --json", check=False).stdout)
    assert status["BackendState"] == "NeedsLogin"


@pytest.mark.usefixtures("installed")
def test_installed_system_keeps_its_own_files_over_a_reboot(operator: Operator, toplevel: str) -> None:
    operator.ssh("echo kept >/root/file")
    own = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /root/file"
    before, first_boot = operator.ssh(own).stdout, boot_id(operator)
    operator.ssh("systemctl reboot", check=False)
    ends = time.monotonic() + BOOT_S
    while boot_id(operator) in ("", first_boot):
        assert time.monotonic() < ends, f"not back {BOOT_S} s after the reboot"
        time.sleep(0.5)
    assert operator.ssh(own).stdout == before
    assert operator.ssh("readlink /run/current-system").stdout.strip() == toplevel
    assert operator.ssh("systemctl is-system-running --wait").stdout.strip() == "running"
