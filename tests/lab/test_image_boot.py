"""The lab's installer image boots with what kexec/run packs, and has what the phases rely on."""

import base64
import gzip
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.image import KERNEL_PARAMS, image_folder
from tests.lab.booting import BEHIND_S, BOOT_S, DEAD_MAN_S, MACHINE_ID, PREFS, WATCHED_S, Booted, Guest, booted

pytestmark = pytest.mark.lab


def _image() -> Booted:
    return Booted(image_folder() / "kexec", KERNEL_PARAMS)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with booted(_image(), tmp_path_factory.mktemp("image")) as guest:
        yield guest


def test_mark_and_identity_are_there(guest: Guest) -> None:
    mark = json.loads(guest.said("cat /run/holdfast/installer.json"))
    assert abs(mark.pop("dead_man_at") - time.time() - DEAD_MAN_S) < BOOT_S
    assert mark == {
        "image_id": "holdfast-kexec-installer-lab-x86_64-linux",
        "run_id": "run-1",
        "origin_boot_id": "1111-2222",
        "origin_mark": "no",
        "origin_nixos": "no",
        "origin_hostname": re.sub("[^A-Za-z0-9._-]", "", os.uname().nodename),
        "state": "restored",
        "secrets": "none",
        "dead_man_s": DEAD_MAN_S,
    }
    assert guest.said("cat /etc/machine-id; hostname; cat /etc/resolv.conf").split("\n") == [
        MACHINE_ID,
        "cottage",
        "nameserver 10.0.2.3",
    ]
    assert guest.said("stat -c %a /var/lib/tailscale /var/lib/tailscale/tailscaled.state /").split() == [
        "700",
        "600",
        "755",
    ]
    assert guest.said(". /etc/os-release; echo $VARIANT_ID") == "installer"
    assert guest.said("ls -d /ssh /holdfast 2>&1 | grep -c 'No such'") == "2"
    assert json.loads(guest.said("cat /run/holdfast/run.json"))["hostname"] == "cottage"


def test_clock_is_that_of_the_origin(guest: Guest) -> None:
    assert abs(int(guest.said("date +%s")) - time.time()) < BOOT_S
    assert time.time() - int(guest.said("cat /sys/class/rtc/rtc0/since_epoch")) > BEHIND_S / 2
    assert "set-clock: the clock was " in guest.said("journalctl -u holdfast-restore -o cat")


def test_preferences_that_could_lock_out_are_off_and_kept(guest: Guest) -> None:
    state = json.loads(guest.said("cat /var/lib/tailscale/tailscaled.state"))
    prefs = json.loads(base64.b64decode(state["profile-1"]))
    assert prefs == PREFS | {"ShieldsUp": False, "AdvertiseRoutes": None, "RouteAll": False, "RunSSH": False}
    assert guest.said("stat -c %a /run/holdfast/prefs.json") == "600"
    guest.said("mkdir -p /tmp/new/etc && sh /usr/lib/holdfast/carry-over.sh /tmp/new tailscale-state")
    carried = json.loads(guest.said("cat /tmp/new/var/lib/tailscale/tailscaled.state"))
    assert json.loads(base64.b64decode(carried.pop("profile-1"))) == PREFS
    assert set(carried) == set(state) - {"profile-1"}


def test_units_are_well(guest: Guest) -> None:
    assert guest.said("systemctl --failed --no-legend") == ""
    assert guest.said("systemctl is-active tailscaled ssh systemd-networkd").split() == ["active"] * 3


def test_a_tailscaled_that_hangs_is_restarted(guest: Guest) -> None:
    alive = "timeout 5 tailscale status --json | grep -c BackendState"
    guest.wait_until("tailscaled's answer", lambda: guest.answers(alive) == "1", 60)
    time.sleep(WATCHED_S)
    pid = guest.said("pidof tailscaled")
    guest.said("kill -STOP $(pidof tailscaled)")
    began = time.monotonic()
    guest.wait_until("another tailscaled", lambda: guest.answers("pidof tailscaled") not in ("", pid), 180)
    guest.wait_until("its answer", lambda: guest.answers(alive) == "1", 60)
    print(f"tailscaled was back after {time.monotonic() - began:.0f} s")
    assert "has not answered 3 times" in guest.said("journalctl -u holdfast-tailscale-watch -o cat")
    assert guest.said("systemctl is-active holdfast-tailscale-watch tailscaled").split() == ["active"] * 2


def test_static_addresses_and_routes_are_back(guest: Guest) -> None:
    guest.wait_until("the address", lambda: "10.0.2.77/24" in guest.answers("ip -br addr"), 30)
    assert "via 10.0.2.2" in guest.said("ip route show 192.0.2.0/24")


def test_detached_work_and_its_journal(guest: Guest) -> None:
    guest.said("systemd-run --unit=work -p RemainAfterExit=yes sh -c 'echo from the unit; exit 0'")
    shown = "systemctl show -p LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus --value work"
    done = "exited\n"
    guest.wait_until("the unit's end", lambda: done in guest.answers(shown) + "\n", 30)
    lines = guest.said("journalctl -u work -o json").splitlines()
    assert "from the unit" in [json.loads(line)["MESSAGE"] for line in lines]


def test_disks_by_id_and_tools(guest: Guest) -> None:
    assert guest.said("readlink -f /dev/disk/by-id/virtio-COTTAGE0001") == "/dev/vda"
    tools = (
        "awk blkid extlinux findmnt journalctl jq lsblk mkfs.ext4 mkfs.vfat mount mountpoint nix nix-daemon nix-store "
        "nixos-install sfdisk sha256sum tailscale tailscaled tar udevadm unshare wipefs"
    )
    assert guest.said(f"for t in {tools}; do command -v $t >/dev/null || echo $t; done") == ""
    guest.said("for m in ext4 vfat loop; do modprobe $m; done; grep -w vfat /proc/filesystems")


def test_dead_man_is_armed_fed_and_disarmed(guest: Guest) -> None:
    due = "systemctl show -p NextElapseUSecMonotonic --value holdfast-deadman.timer"
    first = guest.said(due)
    assert first
    assert f"OnActiveUSec={DEAD_MAN_S // 60}min {DEAD_MAN_S % 60}s" in guest.said(
        "systemctl show -p TimersMonotonic holdfast-deadman.timer"
    )
    guest.said("systemctl restart holdfast-deadman.timer")
    assert guest.said(due) != first
    guest.said("systemctl stop holdfast-deadman.timer")
    assert guest.ssh("systemctl is-active holdfast-deadman.timer").stdout.strip() == "inactive"


def test_dead_man_stays_if_another_tool_started_the_installer_and_somebody_came(guest: Guest) -> None:
    mark = "/run/holdfast/installer.json"
    guest.said(f"cp {mark} /tmp/mark")
    try:
        guest.said(f'sed -i \'s/"run_id": "run-1"/"run_id": null/\' {mark}')
        guest.said("systemctl start holdfast-deadman.service")
        said = guest.said("journalctl -u holdfast-deadman.service -o cat")
        assert "holdfast-dead-man: stays in the installer: somebody logged in" in said
    finally:
        guest.said(f"cp /tmp/mark {mark}")


def test_dead_man_reboots(guest: Guest) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = guest.said(boot_id)
    soon = "/run/systemd/system/holdfast-deadman.timer.d"
    try:
        guest.said(f"mkdir -p {soon} && printf '[Timer]\\nOnActiveSec=\\nOnActiveSec=1\\n' >{soon}/z.conf")
        guest.said("systemctl daemon-reload && systemctl restart --no-block holdfast-deadman.timer")
        guest.wait_until("the reboot", lambda: guest.answers(boot_id) not in ("", before), BOOT_S)
    finally:
        guest.answers(f"rm -rf {soon}; systemctl daemon-reload")  # gone already if it did reboot


def _archive(*entries: tuple[str, bytes, str, bytes]) -> bytes:
    """Pack entries of name, kind, link and content, after a valid state file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, link, content in (("./tailscaled.state", tarfile.REGTYPE, "", b"poison"), *entries):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# tests/unit/test_scripts_installer.py has all kinds; each costs the start of a machine here.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "through a link": (
        lambda: _archive(("out", tarfile.SYMTYPE, "/etc", b""), ("out/poison", tarfile.REGTYPE, "", b"x")),
        "links, devices or other things",
    ),
    "2 GB of zeros": (lambda: gzip.compress(bytes(1 << 20)) * 2048, "more than 67108864 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_state_is_refused_and_the_installer_answers(tmp_path: Path, name: str) -> None:
    """kexec/run packs none of these. Here they reach the installer after what it packed."""
    content, reason = HOSTILE[name]

    def forge(initrd: Path) -> None:
        forged = tmp_path / "forged/holdfast/tailscale-state.tar.gz"
        forged.parent.mkdir(parents=True)
        forged.write_bytes(content())
        pack = ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"]
        listed = f"{forged.relative_to(tmp_path / 'forged')}\n".encode()
        with initrd.open("ab") as file:
            file.write(bytes(-file.seek(0, os.SEEK_END) % 4))
            file.flush()
            subprocess.run(pack, cwd=tmp_path / "forged", input=listed, check=True, stdout=file)

    with booted(_image(), tmp_path, forge) as guest:
        mark = json.loads(guest.said("cat /run/holdfast/installer.json"))
        assert mark["state"].startswith("refused: ")
        assert reason in mark["state"]
        assert mark["run_id"] == "run-1"
        assert f"Tailscale state: {mark['state']}" in guest.said("journalctl -u holdfast-restore -o cat")
        assert guest.said("systemctl is-active tailscaled ssh").split() == ["active"] * 2
        assert json.loads(guest.ssh("tailscale status --json").stdout)["BackendState"] == "NeedsLogin"
        # Nothing of it is left: no file with its name or content, no device outside of /dev.
        assert guest.said("find / -xdev \\( -name '*poison*' -o -type b -o -type c -o -type p \\)") == ""
        assert guest.said("grep -rls poison /etc /root /var /holdfast /run || true") == ""
        assert guest.said("ls /var/lib | grep holdfast || true") == ""
        assert guest.said("systemctl --failed --no-legend") == ""
