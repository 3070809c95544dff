"""An origin behind a jump host, with SSH on port 2222 alone, and a sudo that asks for a password.

The jump host is an sshd in the lab's network. It reaches the machine at an address of its own loopback, from where QEMU
leads on: to port 2222 for the origin, and to port 22 for the installer and the final system.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import qemu
from lab.operator import Operator
from lab.origin import USER
from lab.runtime import Lab
from tests.lab.origins.whole_runs import install, rehearse

pytestmark = [pytest.mark.lab, pytest.mark.origins]

ADDRESS = "127.0.0.2"
PORT = 2222
PASSWORD = "a password, with a blank"
# Standard input is the password. The link of who calls this stays.
PREPARE = f"""
set -eu
read -r password
printf '{USER}:%s\\n' "$password" | chpasswd
echo '{USER} ALL=(ALL) ALL' >/etc/sudoers.d/{USER}
printf 'Port {PORT}\\nPermitRootLogin no\\n' >/etc/ssh/sshd_config.d/lab.conf
systemctl restart ssh
"""
SSHD = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
"""
SSH = """\
Host {address}
  ProxyJump gate
Host gate
  User root
  IdentityFile {key}
  UserKnownHostsFile {folder}/known_hosts
  ProxyCommand {command}
"""


def jump_host(lab: Lab) -> Path:
    """Make a jump host, and return an SSH configuration that leads over it."""
    folder = lab.run_dir / "gate"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
    (folder / "known_hosts").write_text("gate " + (folder / "host_key.pub").read_text())
    shutil.copy(lab.run_dir / "operator_key.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    server = ["/usr/sbin/sshd", "-i", "-f", str(folder / "sshd_config"), "-E", str(folder / "sshd.log")]
    command = shlex.join([*lab.world.inside(), *server])
    config = folder / "ssh_config"
    config.write_text(SSH.format(address=ADDRESS, key=lab.key, folder=folder, command=command))
    for port in (22, PORT):
        qemu.monitor(lab.world.qmp, f"hostfwd_add net tcp:{ADDRESS}:{port}-{qemu.GUEST_ADDRESS}:{port}")
    return config


@pytest.fixture(scope="module")
def behind(lab: Lab, operator: Operator) -> Iterator[Operator]:
    """The operator, to whom only the jump host leads, and whose inventory and settings say how."""
    inventory, password = lab.run_dir / "hosts.toml", lab.run_dir / "sudo_password"
    before = inventory.read_text()
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    with lab.other_machine(qemu.BIOS):
        lab.ssh_local(["sh", "-c", PREPARE], stdin=f"{PASSWORD}\n")
        settings = {"HOLDFAST_SSH_CONFIG": str(jump_host(lab)), "HOLDFAST_SUDO_PASSWORD_FILE": str(password)}
        told = before.replace('proxy = "tailscale-nc"', f'port = {PORT}\nelevation = "sudo"')
        told = told.replace(lab.address, ADDRESS).replace("[cottage]", f'[cottage]\nuser = "{USER}"')
        try:
            inventory.write_text(told)
            operator.stop_serving()
            operator.overrides |= settings
            operator.start_serving()
            yield operator
        finally:
            inventory.write_text(before)
            for name in settings:
                operator.overrides.pop(name)
            operator.stop_serving()
            operator.start_serving()


def test_rehearsal_returns_to_it(behind: Operator) -> None:
    rehearse(behind)


def test_install_from_there(lab: Lab, behind: Operator) -> None:
    install(lab, behind)
