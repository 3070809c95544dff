"""The installer image for aarch64 boots with what kexec/run packs, and has its tools."""

import base64
import json
import time
from collections.abc import Iterator

import pytest

from lab.aarch64 import image
from lab.qemu import ARM
from tests.lab.booting import BEHIND_S, BOOT_S, MACHINE_ID, PREFS, Booted, Guest, booted

pytestmark = [pytest.mark.lab, pytest.mark.matrix]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    made = Booted(image.image_folder() / "kexec", image.KERNEL_PARAMS, ARM)
    with booted(made, tmp_path_factory.mktemp("image")) as guest:
        yield guest


def test_mark_and_identity_are_there(guest: Guest) -> None:
    assert guest.said("uname -m") == "aarch64"
    mark = json.loads(guest.said("cat /run/holdfast/installer.json"))
    assert (mark["image_id"], mark["run_id"], mark["state"]) == (image.NAME, "run-1", "restored")
    assert guest.said("cat /etc/machine-id; hostname").split() == [MACHINE_ID, "cottage"]
    state = json.loads(guest.said("cat /var/lib/tailscale/tailscaled.state"))
    prefs = json.loads(base64.b64decode(state["profile-1"]))
    assert prefs == PREFS | {"ShieldsUp": False, "AdvertiseRoutes": None, "RouteAll": False, "RunSSH": False}


def test_clock_is_that_of_the_origin(guest: Guest) -> None:
    assert abs(int(guest.said("date +%s")) - time.time()) < BOOT_S
    assert time.time() - int(guest.said("cat /sys/class/rtc/rtc0/since_epoch")) > BEHIND_S / 2


def test_network_is_back(guest: Guest) -> None:
    guest.wait_until("the address", lambda: "10.0.2.77/24" in guest.answers("ip -br addr"), 30)
    assert "via 10.0.2.2" in guest.said("ip route show 192.0.2.0/24")


def test_units_are_well(guest: Guest) -> None:
    assert guest.said("systemctl --failed --no-legend") == ""
    assert (
        guest.said("systemctl is-active tailscaled ssh systemd-networkd holdfast-deadman.timer").split()
        == ["active"] * 4
    )


def test_tools_run(guest: Guest) -> None:
    assert guest.said("readlink -f /dev/disk/by-id/virtio-COTTAGE0001") == "/dev/vda"
    # Without a library or a loader, each of them ends with 127.
    tools = (
        "blkid --version;findmnt --version;jq --version;lsblk --version;mkfs.ext4 -V;nix --version;sfdisk --version;"
        "tailscale version;udevadm --version;kexec --version;ip -V;iptables --version;ssh-keygen -l -f "
        "/etc/ssh/ssh_host_ed25519_key;mkfs.vfat --help;partx --version"
    )
    for tool in tools.split(";"):
        assert guest.ssh(f"{tool} >/dev/null 2>&1").returncode not in (126, 127), tool
    guest.said("for m in ext4 vfat loop btrfs dm-mod efivarfs; do modprobe $m || exit; done")
    assert guest.said("file=/etc/holdfast/standby/boot.efi; head -c 2 $file") == "MZ"
