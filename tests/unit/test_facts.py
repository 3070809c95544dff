"""nix/scripts/any/facts.sh run under dash, and the parser of its answer."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.errors import UnexpectedState
from holdfast.base.settings import script
from holdfast.facts.answer import MAX_FACTS_BYTES
from holdfast.facts.facts import parse_facts
from holdfast.facts.ssh import AuthorizedKey, HostKeyFile
from holdfast.plan.stage import observe
from tests.unit.cases import CASES, LOGIN_KEY, NODE_KEY, answer, facts, status

HOSTILE = 'evil "quoted" back\\slash\ttab\x1b[31mred\x01 \\n $(touch pwned) `id` ünï\udcff'


def run_script(root: Path | str, tools: str = "") -> str:
    done = subprocess.run(
        ["dash", "-s"],
        input=script("any/facts.sh").encode(),
        capture_output=True,
        env={"PATH": f"{tools}:{os.environ['PATH']}" if tools else os.environ["PATH"], "HOLDFAST_ROOT": str(root)},
        check=True,
        timeout=60,
    )
    return done.stdout.decode("utf-8", "replace")


def fake_root(root: Path, files: dict[str, str]) -> Path:
    base = {
        "etc/os-release": "ID=debian\n",
        "proc/sys/kernel/random/boot_id": "0d2b3c4d-1111-4222-8333-444455556666\n",
        "proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  900 kB\n",
        "run/systemd/system/x": "",
        "tmp/x": "",
        "var/lib/x": "",
    }
    for name, text in (base | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return root


def test_script_answers_on_this_machine() -> None:
    seen = parse_facts(run_script(""), "here")
    assert seen.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert seen.memory_bytes > seen.available_bytes > 0
    assert seen.arch == os.uname().machine


def test_script_answers_with_busybox_alone(tmp_path: Path) -> None:
    busybox = subprocess.run(["which", "busybox"], capture_output=True, text=True, check=False).stdout.strip()
    if not busybox:
        pytest.skip("there is no busybox")
    subprocess.run([busybox, "--install", "-s", str(tmp_path)], check=True)
    done = subprocess.run(
        [busybox, "sh", "-s"],
        input=script("any/facts.sh").encode(),
        capture_output=True,
        env={"PATH": str(tmp_path)},
        check=True,
        timeout=60,
    )
    seen = parse_facts(done.stdout.decode("utf-8", "replace"), "here")
    assert seen.memory_bytes > 0
    assert seen.run_free_bytes > 0


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    files = {
        "etc/os-release": f"ID=debian\nPRETTY_NAME={HOSTILE}\n",
        "sys/block/vda/size": "2048\n",
        "sys/block/vda/serial": HOSTILE + "\n",
    }
    output = run_script(fake_root(tmp_path, files))
    assert "\x1b" not in output
    (disk,) = parse_facts(output, "x").disks
    assert disk.serial.startswith('evil "quoted" back\\slash tab[31mred \\n $(touch pwned) `id` ünï')
    assert disk.serial.isprintable()
    assert not Path("pwned").exists()


def test_long_answers_are_cut_off_and_stay_json(tmp_path: Path) -> None:
    root = fake_root(tmp_path, {"run/holdfast/installer.json": '"' * 200_000, "etc/os-release": "\\" * 65_537})
    output = run_script(root)
    assert len(output) < MAX_FACTS_BYTES
    assert len(json.loads(output)["installer_mark"]) <= 65_537
    assert parse_facts(output, "x").broken_marks == ("installer_mark",)


def test_script_prints_no_secret(tmp_path: Path) -> None:
    poison = "privkey:" + "5ec7e7" * 10
    files = {
        "var/lib/tailscale/tailscaled.state": f'{{"_machinekey": "{poison}"}}',
        "etc/default/tailscaled": f"TS_AUTHKEY={poison}\n",
        "etc/ssh/ssh_host_ed25519_key": poison,
        "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA root@x\n",
        "proc/42/comm": "tailscaled\n",
        "proc/42/cmdline": f"tailscaled\0--socket=/x\0--authkey={poison}\0--statedir\0/var/lib/tailscale\0",
        "proc/42/environ": f"TS_AUTHKEY={poison}\0",
    }
    output = run_script(fake_root(tmp_path, files))
    assert poison not in output
    assert "5ec7e7" not in output
    tailscale = parse_facts(output, "x").tailscale
    assert (tailscale.running, tailscale.state_kind) == (True, "plain")


@pytest.mark.parametrize(
    ("flags", "content", "store", "kind"),
    [
        ("--state=/var/lib/tailscale/tailscaled.state", '{"_machinekey": "x"}', "file", "plain"),
        ("--port=1", '{"key":{},"nonce":"x","data":"y"}', "file", "sealed"),
        ("-encrypt-state", '{"key":{},"nonce":"x","data":"y"}', "file", "sealed"),
        ("--state=mem:", "", "memory", "none"),
        ("--state\0kube:secret", "", "kubernetes", "none"),
        ("-state=arn:aws:ssm:eu:1:parameter/x", "", "aws", "none"),
        ("--port=1", "{}", "file", "empty"),
        ("--port=1", None, "file", "missing"),
    ],
)
def test_where_the_state_is(tmp_path: Path, flags: str, content: str | None, store: str, kind: str) -> None:
    files = {"proc/7/comm": "tailscaled\n", "proc/7/cmdline": f"/usr/sbin/tailscaled\0{flags}\0"}
    if content is not None:
        files["var/lib/tailscale/tailscaled.state"] = content
    tailscale = parse_facts(run_script(fake_root(tmp_path, files)), "x").tailscale
    assert (tailscale.state_store, tailscale.state_kind) == (store, kind)


LAID_OUT = {"indent": 2}, {"separators": (",", ":")}


def state_of(attestation: object, layout: dict[str, Any], *, current: str = "profile-7a2c") -> str:
    """Return a state file whose profile has an attestation key, or not; another profile always has one."""
    profile = {"Config": {"PrivateNodeKey": "privkey:0", **({"AttestationKey": attestation} if attestation else {})}}
    other = {"Config": {"AttestationKey": {"tpmPrivate": "eA=="}}}
    values = {"_machinekey": "x", "_current-profile": current, "profile-7a2c": profile, "profile-0": other}
    texts = {key: value if isinstance(value, str) else json.dumps(value, indent="\t") for key, value in values.items()}
    return json.dumps({key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}, **layout)


@pytest.mark.parametrize("layout", LAID_OUT)
@pytest.mark.parametrize(
    ("flags", "attestation", "current", "attested"),
    [
        ("--port=1", {"tpmPrivate": "eA==", "tpmPublic": "eQ=="}, "profile-7a2c", True),
        ("--port=1", None, "profile-7a2c", False),
        ("--port=1", {"tpmPrivate": "eA=="}, "profile-7a2c/../x", False),
        ("--port=1", {"tpmPrivate": "eA=="}, ".*", False),
        ("--hardware-attestation", None, "profile-7a2c", True),
        ("--hardware-attestation=true", None, "profile-7a2c", True),
        ("--hardware-attestation=false", None, "profile-7a2c", False),
    ],
)
def test_key_of_the_tpm_is_told_by_the_flag_or_the_current_profile(
    tmp_path: Path, flags: str, attestation: object, current: str, attested: bool, layout: dict[str, Any]
) -> None:
    files = {
        "proc/7/comm": "tailscaled\n",
        "proc/7/cmdline": f"/usr/sbin/tailscaled\0{flags}\0",
        "var/lib/tailscale/tailscaled.state": state_of(attestation, layout, current=current),
    }
    output = run_script(fake_root(tmp_path, files))
    assert parse_facts(output, "x").tailscale.attested is attested
    assert "tpmPrivate" not in output


@pytest.mark.parametrize("layout", LAID_OUT)
@pytest.mark.parametrize(
    ("preferences", "saved", "ssh", "host_name"),
    [
        ({"RunSSH": True, "Hostname": "barn"}, None, True, "barn"),
        ({"RunSSH": False, "Hostname": ""}, None, False, ""),
        ({}, None, False, ""),
        # The installer switched it off; the final system gets it back (tailscale-prefs.sh).
        ({"RunSSH": False}, {"profile-7": {"ShieldsUp": False, "RunSSH": True, "AdvertiseRoutes": None}}, True, ""),
        ({"RunSSH": False}, {"profile-0": {"RunSSH": True}, "profile-7": {"RunSSH": False}}, False, ""),
        ({"Config": {"UserProfile": {"DisplayName": 'x","RunSSH":true,"Hostname":"evil'}}}, None, False, ""),
    ],
)
def test_preferences_that_the_final_system_gets(
    tmp_path: Path, preferences: object, saved: object, ssh: bool, host_name: str, layout: dict[str, Any]
) -> None:
    profiles = {"_current-profile": "profile-7", "profile-7": json.dumps(preferences), "profile-0": '{"RunSSH": true}'}
    state = {key: base64.b64encode(text.encode()).decode() for key, text in profiles.items()}
    files = {"var/lib/tailscale/tailscaled.state": json.dumps(state, **layout)}
    if saved:
        files["run/holdfast/prefs.json"] = json.dumps(saved, **layout)
    tailscale = parse_facts(run_script(fake_root(tmp_path, files)), "x").tailscale
    assert (tailscale.ssh, tailscale.pinned_host_name) == (ssh, host_name)


@pytest.mark.parametrize(
    ("files", "machine", "firmware"),
    [
        ({"sys/firmware/efi/fw_platform_size": "64\n"}, "x86_64", "efi"),
        ({"sys/firmware/efi/fw_platform_size": "32\n"}, "x86_64", "efi32"),
        ({"sys/firmware/efi/systab": ""}, "aarch64", "efi"),
        ({}, "x86_64", "bios"),
        ({}, "i686", "bios"),
        ({}, "aarch64", "other"),
    ],
)
def test_firmware(tmp_path: Path, files: dict[str, str], machine: str, firmware: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
    (tools / "uname").chmod(0o755)
    assert parse_facts(run_script(fake_root(tmp_path / "root", files), str(tools)), "x").firmware == firmware


@pytest.mark.parametrize("layout", LAID_OUT)
@pytest.mark.parametrize(
    ("said", "lock"),
    [
        ({"Enabled": True, "NodeKey": "nodekey:0", "NodeKeySigned": True, "VisiblePeers": [{"Name": "x"}]}, "signed"),
        (
            {"Enabled": True, "NodeKeySigned": False, "FilteredPeers": [{"Name": '","NodeKeySigned":true,"'}]},
            "unsigned",
        ),
        ({"SchemaVersion": "1", "Enabled": True}, "unsigned"),
        ({"Enabled": False, "NodeKeySigned": False}, "off"),
        ({"SchemaVersion": "1", "Enabled": False}, "off"),
        ("tailnet lock is not supported", "off"),
        (None, "off"),
    ],
)
def test_tailnet_lock_is_read_without_its_peers(
    tmp_path: Path, said: object, lock: str, layout: dict[str, Any]
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    text = said if isinstance(said, str) else json.dumps(said, **layout)
    (tools / "answer").write_text(text if said else "")
    answers = f'[ "$*" = "lock status --json" ] && exec cat {tools}/answer'
    (tools / "tailscale").write_text(f"#!/bin/sh\n{answers}\n")
    (tools / "tailscale").chmod(0o755)
    output = run_script(fake_root(tmp_path / "root", {}), str(tools))
    assert parse_facts(output, "x").tailscale.lock == lock
    assert "nodekey" not in output


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_serial_of_one_disk_cannot_speak_for_another(tmp_path: Path, separator: str) -> None:
    forged = separator.join(["S", "vda serial PINNED", "vda size 1"])
    files = {
        "sys/block/vda/size": "4096\n",
        "sys/block/vda/serial": "REAL\n",
        "sys/block/vdb/size": "2048\n",
        "sys/block/vdb/serial": f"{forged}\n",
    }
    disks = {disk.name: disk for disk in parse_facts(run_script(fake_root(tmp_path, files)), "x").disks}
    assert (disks["vda"].serial, disks["vda"].size_bytes) == ("REAL", 4096 * 512)
    assert disks["vdb"].serial.isprintable()


def test_state_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    files = {"proc/7/comm": "tailscaled\n", "proc/7/cmdline": "tailscaled\0--state=/run/pipe\0"}
    root = fake_root(tmp_path, files)
    os.mkfifo(root / "run/pipe")
    assert parse_facts(run_script(root), "x").tailscale.state_kind == "missing"


def test_many_devices_hide_no_mount(tmp_path: Path) -> None:
    root = fake_root(tmp_path / "root", {"sys/block/vda/size": "4096\n"})
    mount = "27 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n"
    (root / "proc/self").mkdir()
    (root / "proc/self/mountinfo").write_text(mount)
    volume = {"name": "vg-root", "type": "lvm", "fstype": "ext4"}
    other = [{"name": f"vdx{number}", "type": "disk", "label": "x" * 60} for number in range(1000)]
    tree = [*other, {"name": "vda", "type": "disk", "fstype": "LVM2_member", "children": [volume]}]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tree").write_text(json.dumps({"blockdevices": tree}))
    (tools / "lsblk").write_text(f"#!/bin/sh\ncat {tools}/tree\n")
    (tools / "lsblk").chmod(0o755)
    (disk,) = parse_facts(run_script(root, str(tools)), "x").disks
    assert disk.mountpoints == ("/",)


def test_scsi_and_mmc_disks_in_sysfs(tmp_path: Path) -> None:
    files = {
        "sys/block/sda/size": "4096\n",
        "sys/block/sda/dev": "8:0\n",
        "sys/block/sda/device/wwid": "naa.5000c500a1b2c3d4\n",
        "sys/block/sda/sda1/partition": "1\n",
        "sys/block/sda/sda1/size": "2048\n",
        "sys/block/sda/sda1/dev": "8:1\n",
        "sys/block/sda/sda2x/size": "1\n",
        "sys/block/mmcblk0/size": "8192\n",
        "sys/block/mmcblk0/device/cid": "150100424a54443452\n",
        "sys/block/loop0/size": "10\n",
        "run/udev/data/b8:0": "E:ID_SERIAL_SHORT=ZA1B2C3D\nE:ID_MODEL=x\n",
        "dev/disk/by-id/x": "",
    }
    root = fake_root(tmp_path, files)
    (root / "dev/disk/by-id/ata-X_ZA1B2C3D").symlink_to("../../sda")
    disks = {disk.name: disk for disk in parse_facts(run_script(root), "x").disks}
    assert set(disks) == {"sda", "mmcblk0"}
    assert (disks["sda"].serial, disks["sda"].wwid) == ("ZA1B2C3D", "naa.5000c500a1b2c3d4")
    assert [(part.name, part.size_bytes) for part in disks["sda"].partitions] == [("sda1", 2048 * 512)]
    assert disks["mmcblk0"].stable_id == "150100424a54443452"


def test_debian() -> None:
    seen = facts("debian-12")
    assert (seen.os_id, seen.os_version, seen.init, observe(seen).stage) == ("debian", "12", "systemd", "origin")
    assert seen.memory_bytes == 1000552 * 1024
    assert seen.identity is not None
    assert (seen.identity.node_key, seen.identity.node_id) == (NODE_KEY, "1")
    assert seen.identity.addresses == ("100.64.0.1", "fd7a:115c:a1e0::1")
    assert seen.identity.dns_name == "cottage.tailnet.internal"
    assert seen.tailscale.key_expiry is None
    (disk,) = seen.disks
    assert (disk.serial, disk.size_bytes, disk.by_id) == ("COTTAGE0001", 3221225472, ("virtio-COTTAGE0001",))
    assert disk.mountpoints == ("/boot", "/")
    assert [part.label for part in disk.partitions] == ["ORIGINBOOT", "origin-root"]
    assert seen.kexec.supported
    assert not seen.kexec.locked_down
    assert seen.network.addresses == ("ens3 10.0.2.15/24", "tailscale0 100.64.0.1/32")
    assert seen.host_key_files == (HostKeyFile(path="/etc/ssh/ssh_host_ed25519_key", key="ssh-ed25519 AAAA"),)
    assert seen.authorized_keys == (AuthorizedKey(key=LOGIN_KEY),)


def test_installer() -> None:
    seen = facts("installer")
    assert observe(seen).stage == "installer"
    assert seen.installer_mark is not None
    assert seen.installer_mark.dead_man_at == 1790000900
    assert seen.units == ("holdfast-deadman.timer",)
    assert seen.partition_mark is None


def test_nixos_on_zfs() -> None:
    seen = facts("nixos")
    assert seen.booted_system.endswith("-nixos-system-cottage-25.11")
    assert [disk.name for disk in seen.disks] == ["nvme0n1"]  # the empty card reader is no disk
    assert seen.disks[0].stable_id == "S5GYNX0R123456A"
    assert "ZFS 'rpool'" in seen.disks[0].describe_content()
    assert seen.kexec.secure_boot is False


def test_ubuntu_on_lvm_and_luks() -> None:
    seen = facts("ubuntu-lvm")
    assert seen.disks[0].mountpoints == ("/", "[swap]")
    assert seen.disks[0].partitions[1].mountpoints == ("/", "[swap]")
    assert seen.disks[0].content.mountpoints == ()
    assert seen.disks[0].serial == "QM00001"
    assert seen.kexec.locked_down == "integrity"
    assert seen.kexec.secure_boot is True
    label = seen.disks[1].content.label
    assert label.isprintable()
    assert "\\x1b" in label
    assert "\\u202e" in label


def test_alpine_without_lsblk_and_kernel_config() -> None:
    seen = facts("alpine")
    assert seen.init == "init"
    assert seen.kexec.supported  # told by /sys/kernel/kexec_loaded
    assert [(part.fstype, part.mountpoints) for part in seen.disks[0].partitions] == [("vfat", ()), ("ext4", ("/",))]
    assert not facts("alpine", kexec_loaded="").kexec.supported


def test_not_logged_in_is_no_identity() -> None:
    assert facts("debian-12", tailscale_status=status(state="NeedsLogin")).identity is None
    assert facts("debian-12", tailscale_status=status(PublicKey="nodekey:" + "0" * 64)).identity is None
    assert facts("debian-12", tailscale_status=status(Expired=True)).identity is None
    assert facts("debian-12", tailscale_status="not json").tailscale.backend_state == ""


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Welcome to cottage!",
        '{\n"format": "1"}',
        '{\n"format": "2",\n"end": "1"}',
        '{\n"format": 1,\n"end": "1"}',
        "{\n" + '"format": ' + "[" * 100_000,
        '{\n"format": "' + "1" * (MAX_FACTS_BYTES + 1),
        answer("debian-12", boot_id="../../etc"),
    ],
    ids=["nothing", "greeting", "part", "format", "number", "nested", "endless", "no boot id"],
)
def test_other_answers_are_refused_in_one_short_line(output: str) -> None:
    with pytest.raises(UnexpectedState) as error:
        parse_facts(output, "cottage")
    assert "cottage did not answer with facts" in error.value.message
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_greeting_before_the_answer_is_skipped() -> None:
    assert parse_facts("Welcome!\n" + answer("debian-12"), "cottage").os_id == "debian"


def test_installer_that_the_new_disk_booted_has_no_dead_man() -> None:
    mark = '{"run_id": "run-1", "state": "restored", "dead_man_at": null, "dead_man_s": null}'
    seen = facts("installer", installer_mark=mark)
    assert observe(seen).stage == "installer"
    assert seen.installer_mark is not None
    assert (seen.installer_mark.dead_man_at, seen.installer_mark.dead_man_s) == (None, None)
    # An older image knows of no secrets.
    assert seen.installer_mark.secrets == "none"


def test_broken_mark_belongs_to_nobody() -> None:
    assert observe(facts("installer", installer_mark="{")).stage == "other"
    assert observe(facts("installer", partition_mark='{"run_id": "x\\u001b"}')).stage == "other"
    assert observe(facts("installer", installer_mark='{"state": "\\u202enone"}')).stage == "other"
    assert observe(facts("installer", installer_mark='{"state": "none", "dead_man_at": Infinity}')).stage == "other"


def test_every_recorded_case_parses() -> None:
    for case in CASES.glob("*.json"):
        assert facts(case.stem).memory_bytes > 0


def test_disk_that_is_a_member_itself_and_one_that_is_only_mounted() -> None:
    lsblk = '{"blockdevices": [{"name": "sda", "type": "disk", "fstype": "isw_raid_member"}]}'
    disks = "sda size 9\nsda partition sda1 8 8:1\nvdb size 9\nvdb number 254:16"
    seen = facts("debian-12", disks=disks, lsblk=lsblk, blkid="", mountinfo="9 1 254:16 / /data rw - ext4 /dev/vdb rw")
    assert [disk.describe_content() for disk in seen.disks] == [
        "sda RAID; sda1 unknown content",
        "vdb unknown content at /data",
    ]


@pytest.mark.parametrize("text", ["", " \n", "not json", '{"run_id": 1}', None])
def test_mark_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, text: str | None) -> None:
    mark = "var/lib/holdfast/partition.json"
    root = fake_root(tmp_path, {f"{mark}/a-folder" if text is None else mark: text or ""})
    assert parse_facts(run_script(root), "here").broken_marks == ("system_mark",)


def test_link_to_nowhere_is_a_mark_that_cannot_be_read(tmp_path: Path) -> None:
    root = fake_root(tmp_path, {"var/lib/holdfast/x": ""})
    assert parse_facts(run_script(root), "here").broken_marks == ()
    (root / "var/lib/holdfast/partition.json").symlink_to("gone")
    assert parse_facts(run_script(root), "here").broken_marks == ("system_mark",)


MACHINE_1 = {"proc/1/cgroup": "0::/init.scope\n", "proc/1/environ": "HOME=/\0TERM=linux\0"}


@pytest.mark.parametrize(
    ("detects", "files", "namespaces", "seen"),
    [
        # A file that was left behind, on a machine.
        ("none", {".dockerenv": ""} | MACHINE_1, {}, ""),
        ("none", {"run/.containerenv": "", "run/systemd/container": "podman\n"} | MACHINE_1, {}, ""),
        (None, {".dockerenv": "", "proc/2/comm": "kthreadd\n"} | MACHINE_1, {}, ""),
        ("docker", {".dockerenv": "", "proc/2/comm": "kthreadd\n"} | MACHINE_1, {}, ""),
        ("podman", {"run/.containerenv": ""} | MACHINE_1, {"self/ns/pid": "pid:[4026531836]"}, ""),
        (None, MACHINE_1, {}, ""),
        # Containers, most with the same file.
        ("docker", {".dockerenv": "", "proc/1/cgroup": "0::/\n"}, {"self/ns/pid": "pid:[4026532201]"}, "docker"),
        (None, {".dockerenv": "", "proc/1/cgroup": "0::/\n", "proc/2/comm": "sshd\n"}, {}, "docker"),
        (None, {"run/.containerenv": ""}, {"self/ns/pid": "pid:[4026532201]"}, "podman"),
        ("lxc", {"proc/1/cgroup": "0::/init.scope\n"}, {}, "lxc"),
        ("wsl", {"proc/2/comm": "init\n"}, {}, "wsl"),
        (None, {"proc/1/environ": "container=lxc\0"}, {}, "lxc"),
        ("none", {"proc/1/cgroup": f"0::/docker/{'ab' * 32}\n", "proc/1/environ": ""}, {}, "docker"),
        (None, {"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        # It shares the machine's processes, but not its files.
        (
            None,
            {".dockerenv": "", "proc/2/comm": "kthreadd\n"} | MACHINE_1,
            {"self/ns/mnt": "mnt:[4026532300]", "1/ns/mnt": "mnt:[4026531841]"},
            "docker",
        ),
    ],
)
def test_process_1_says_more_of_a_container_than_a_file(
    tmp_path: Path, detects: str | None, files: dict[str, str], namespaces: dict[str, str], seen: str
) -> None:
    root = fake_root(tmp_path / "root", files)
    for name, number in namespaces.items():
        (root / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "proc" / name).symlink_to(number)
    tools = tmp_path / "tools"
    tools.mkdir()
    detect = "exit 127" if detects is None else f'[ "$1" = --container ] && echo {detects} || echo kvm'
    (tools / "systemd-detect-virt").write_text(f"#!/bin/sh\n{detect}\n")
    (tools / "systemd-detect-virt").chmod(0o755)
    assert parse_facts(run_script(root, str(tools)), "x").container == seen
