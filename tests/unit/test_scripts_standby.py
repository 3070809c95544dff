"""The standby: what standby.sh puts on a new disk and takes away again, in folders that stand for roots and disks."""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from holdfast.base.settings import script

SCRIPTS = Path(__file__).parents[2] / "nix/scripts"
MARK = "# Holdfast standby: boots the installer until the new system has its boot loader"
COMMAND_LINE = "init=/nix/store/x/init console=ttyS0 panic=30"
KERNEL, INITRD = b"kernel" * 100, b"initrd" * 101  # the initrd's size is no multiple of four
PARTITION_JSON = '{"run_id":"run-1","plan_digest":"abc"}'
MIB = 1024 * 1024


class Target:
    """An installer with a new disk: its root, the mounted new root, and programs that play along."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder = folder
        self.shell = shell
        self.live = folder / "installer"
        self.root = folder / "mnt"
        self.tools = folder / "tools"
        self.ram = self.live / "run/holdfast/standby"
        self.calls = folder / "calls"
        for path in (self.root / "boot", self.tools, self.ram, self.live / "dev"):
            path.mkdir(parents=True)
        self.calls.touch()
        self._installer()
        self.mounts: dict[str, tuple[str, str]] = {}
        self.mount("", "ext4", "/dev/vda2")
        self.mount("/boot", "vfat", "/dev/vda1")
        self.disk(table="dos")
        self.tool("df", 'echo head; echo "x 1 1 ${FREE_KIB:-999999} 1% /x"')
        self.tool("lsblk", 'if [ "$3" = "${CRYPT:-}" ]; then echo crypt; fi; printf "part\\ndisk\\n"')
        self.tool(
            "sfdisk", f'echo "sfdisk $*" >>{self.calls}; if [ "$1" = --part-attrs ]; then echo "${{ATTRIBUTES:-}}"; fi'
        )
        self.tool("uname", 'case $1 in -m) echo "${MACHINE:-x86_64}" ;; *) echo cottage ;; esac')
        self.tool("sync", "")
        self.tool("chattr", f'echo "chattr $*" >>{self.calls}')

    def _installer(self) -> None:
        self.write("etc/holdfast/standby/mbr.bin", "m" * 440)
        self.write("etc/holdfast/standby/gptmbr.bin", "g" * 440)
        self.write("etc/holdfast/standby/boot.efi", "efi")
        script = '#!/bin/sh\n[ ! -e "$0.fails" ] || exit 3\necho sys >"$2/ldlinux.sys"\necho c32 >"$2/ldlinux.c32"\n'
        self.write("etc/holdfast/standby/extlinux", script).chmod(0o755)
        self.write("run/holdfast/standby/kernel", "").write_bytes(KERNEL)
        self.write("run/holdfast/standby/initrd", "").write_bytes(INITRD)
        self.write("run/holdfast/standby/command-line", COMMAND_LINE + "\n")
        self.write("var/lib/tailscale/tailscaled.state", '{"profile-1": "x"}')
        self.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\nssh-ed25519 BBBB you\nssh-ed25519 AAAA me\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "private")
        self.write("etc/ssh/ssh_host_ed25519_key.pub", "public")
        self.write("etc/machine-id", "0" * 32)
        self.write("run/systemd/resolved.conf.d/holdfast.conf", "[Resolve]\nDNS=192.0.2.53 2001:db8::53 \n")
        self.write(
            "run/holdfast/run.json",
            '{\n"run_id": "run-1",\n"origin_boot_id": "1111-2222",\n"dead_man_s": 600,\n"hostname": "cottage"\n}\n',
        )
        self.write("run/holdfast/partition.json", PARTITION_JSON)
        for name in ("addrs", "routes-v4", "routes-v6"):
            self.write(f"{name}.json", f'["{name}"]')

    def write(self, name: str, text: str) -> Path:
        path = self.live / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def mount(self, place: str, fstype: str = "", source: str = "") -> None:
        """Mount something below the new root; without a type, unmount it."""
        self.mounts.pop(place, None)
        if fstype:
            self.mounts[place] = (fstype, source)
            (self.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        lines = [f"{self.root}{where} {fs} {device}" for where, (fs, device) in self.mounts.items()]
        (self.folder / "mounts").write_text("".join(f"{line}\n" for line in lines))
        self.tool(
            "findmnt",
            f"""case $1 in
            -Rrnv) [ "$4" = {self.root} ] && cut -d ' ' -f 2,3 {self.folder}/mounts ;;
            *) grep "^$5 " {self.folder}/mounts | cut -d ' ' -f 2,3 | grep . ;;
            esac""",
        )

    def disk(self, *, table: str, active: bool = False) -> None:
        sectors = bytearray(b"o" * 440 + bytes(72))
        sectors[446] = 0x80 if active else 0
        (self.live / "dev/vda").write_bytes(sectors)
        (self.live / "dev/vda1").touch()
        device = self.live / "sys/devices/pci/vda/vda1"
        device.mkdir(parents=True, exist_ok=True)
        (device / "partition").write_text("1\n")
        link = self.live / "sys/class/block/vda1"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(device)
        self.tool("blkid", f"echo {table}")

    def uefi(self) -> None:
        (self.live / "sys/firmware/efi").mkdir(parents=True)

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.live), **environment}
        # As Connection.run_script starts it.
        return subprocess.run(
            [*self.shell, "-s", "--", *map(str, arguments)],
            env=env,
            input=script("any/standby.sh"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def put(self, **environment: str) -> str:
        done = self.run("put", self.root, self.ram, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        assert not list((self.live / "run/holdfast").glob("standby.*"))
        return done.stdout.strip()

    def remove(self, root: object = None) -> str:
        done = self.run("remove", root or self.root)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def files(self, place: str = "boot") -> set[str]:
        top = self.root / place
        return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}

    @property
    def boot_code(self) -> bytes:
        return (self.live / "dev/vda").read_bytes()[:440]

    def handover(self, place: str = "boot") -> dict[str, tuple[int, bytes]]:
        """Return what the kernel unpacks: mode and content by name."""
        data = (self.root / place / "holdfast/handover").read_bytes()
        assert len(data) % 4 == 0
        found: dict[str, tuple[int, bytes]] = {}
        at = 0
        while True:
            assert data[at : at + 6] == b"070701"
            fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
            name_at, size = at + 110, fields[6]
            name = data[name_at : name_at + fields[11] - 1].decode()
            content_at = (name_at + fields[11] + 3) // 4 * 4
            at = (content_at + size + 3) // 4 * 4
            if name == "TRAILER!!!":
                assert at == len(data)
                return found
            found[name] = (fields[1], data[content_at : content_at + size])


@pytest.fixture
def target(shell: list[str], tmp_path: Path) -> Target:
    return Target(tmp_path, shell)


BIOS_FILES = {"holdfast/kernel", "holdfast/initrd", "holdfast/handover", "syslinux.cfg", "ldlinux.sys", "ldlinux.c32"}
UEFI_FILES = {
    *("holdfast/kernel", "holdfast/initrd", "holdfast/handover", "holdfast/loader.efi", "EFI/BOOT/BOOTX64.EFI"),
    *("loader/loader.conf", "loader/entries/holdfast-standby.conf"),
}


def test_bios_disk_boots_the_installer(target: Target) -> None:
    assert target.put() == "armed: by BIOS, /dev/vda1 boots the installer"
    assert target.files() == BIOS_FILES
    boot = target.root / "boot"
    assert (boot / "holdfast/kernel").read_bytes() == KERNEL
    initrd = (boot / "holdfast/initrd").read_bytes()
    assert initrd == INITRD + bytes(-len(INITRD) % 4)
    assert len(INITRD) % 4
    assert (boot / "syslinux.cfg").read_text() == (
        f"{MARK}\nDEFAULT holdfast\nPROMPT 0\nLABEL holdfast\n  LINUX /holdfast/kernel\n"
        f"  INITRD /holdfast/initrd,/holdfast/handover\n  APPEND {COMMAND_LINE}\n"
    )
    assert target.boot_code == b"m" * 440
    assert (target.live / "dev/vda").stat().st_size == 512
    disk = target.live / "dev/vda"
    assert target.calls.read_text() == f"sfdisk --quiet --no-reread --no-tell-kernel --activate {disk} 1\n"
    assert (boot / "holdfast/handover").stat().st_mode & 0o777 == 0o600


def test_handover_makes_the_standby_the_same_node_and_run(target: Target) -> None:
    target.put()
    found = target.handover()
    archive = found.pop("holdfast/tailscale-state.tar.gz")
    assert {name: (oct(mode), content.decode()) for name, (mode, content) in found.items()} == {
        "ssh": ("0o40700", ""),
        "ssh/authorized_keys": ("0o100600", "ssh-ed25519 AAAA me\nssh-ed25519 BBBB you\n"),
        "ssh/ssh_host_ed25519_key": ("0o100600", "private"),
        "ssh/ssh_host_ed25519_key.pub": ("0o100644", "public"),
        "addrs.json": ("0o100644", '["addrs"]'),
        "routes-v4.json": ("0o100644", '["routes-v4"]'),
        "routes-v6.json": ("0o100644", '["routes-v6"]'),
        "machine-id": ("0o100444", "0" * 32),
        "holdfast": ("0o40700", ""),
        "holdfast/hostname": ("0o100644", "cottage\n"),
        "holdfast/resolv.conf": ("0o100644", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"),
        "holdfast/run.json": (
            "0o100644",
            '{\n"run_id": "run-1",\n"origin_boot_id": "1111-2222",\n"dead_man_s": 0,\n"hostname": "cottage"\n}\n',
        ),
        "holdfast/partition.json": ("0o100644", PARTITION_JSON),
    }
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive[1]))) as tar:
        state = tar.extractfile("./tailscaled.state")
        assert state and state.read() == b'{"profile-1": "x"}'


def test_installer_takes_the_handover_and_has_no_dead_man(target: Target) -> None:
    """What `put` packs is what installer-restore.sh and the generator read at the next boot."""
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover, system = target.folder / "initrd", target.folder / "standby"
    for path in ("etc", "root", "var/lib", "proc/sys/kernel", "run"):
        (system / path).mkdir(parents=True)
    for name, (mode, content) in target.handover().items():
        place = handover / name
        if mode & 0o40000:
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    generator = target.folder / "generator"
    generator.write_text((SCRIPTS / "installer/dead-man-generator.sh").read_text().replace("@handover@", str(handover)))
    folders = [target.folder / name for name in ("normal", "early", "late")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([*target.shell, str(generator), *map(str, folders)], check=True, timeout=20)
    assert not list(folders[0].iterdir())
    assert (folders[1] / "holdfast-deadman.timer").readlink() == Path("/dev/null")
    env = {"PATH": os.environ["PATH"], "HOLDFAST_ROOT": str(system)}
    restore = [str(SCRIPTS / "installer/installer-restore.sh"), "--image-id", "i", "--dead-man-s", "900", str(handover)]
    subprocess.run([*target.shell, *restore], check=True, env=env, timeout=60)
    assert json.loads((system / "run/holdfast/installer.json").read_text()) == {
        "image_id": "i",
        "run_id": "run-1",
        "origin_boot_id": "1111-2222",
        "state": "restored",
        "secrets": "restored",
        "dead_man_at": None,
        "dead_man_s": None,
    }
    assert (system / "run/holdfast/partition.json").read_text() == PARTITION_JSON
    assert (system / "var/lib/tailscale/tailscaled.state").read_text() == '{"profile-1": "x"}'
    assert (system / "run/holdfast/secrets/portal").read_text() == "user=me"


def test_secrets_are_handed_on_with_what_has_a_simple_name(target: Target) -> None:
    for name in ("portal", "_b.2-c"):
        target.write(f"run/holdfast/secrets/{name}", name)
    for name in (".hidden", "-x", "a b", "a\nb", "x" * 65, "folder/x"):
        target.write(f"run/holdfast/secrets/{name}", "left by a command of the image")
    (target.live / "run/holdfast/secrets/link").symlink_to("portal")
    target.put()
    mode, packed = target.handover()["holdfast/secrets.tar"]
    assert oct(mode) == "0o100600"
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert {one.name: one.isreg() for one in tar} == {"portal": True, "_b.2-c": True}


def test_without_secrets_none_are_handed_on(target: Target) -> None:
    (target.live / "run/holdfast/secrets").mkdir()
    target.put()
    assert "holdfast/secrets.tar" not in target.handover()


def test_origins_preferences_are_put_back_in_the_state(target: Target) -> None:
    target.write("run/holdfast/prefs.json", "{}")
    target.write("run/holdfast/tailscale-prefs.sh", '[ "$1" = put-back ] && echo back >"$2"')
    target.put()
    archive = target.handover()["holdfast/tailscale-state.tar.gz"][1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        state = tar.extractfile("./tailscaled.state")
        assert state and state.read() == b"back\n"
    assert target.write("run/holdfast/tailscale-prefs.sh", "exit 1")
    assert target.put() == "none: the origin's Tailscale preferences could not be put back"
    assert (target.live / "var/lib/tailscale/tailscaled.state").read_text() == '{"profile-1": "x"}'


def test_network_is_found_where_nixos_images_keeps_it(target: Target) -> None:
    (target.live / "routes-v6.json").unlink()
    target.write("root/network/addrs.json", '["nixos"]')
    target.put()
    found = target.handover()
    assert found["addrs.json"][1] == b'["nixos"]'
    assert "routes-v6.json" not in found


def test_mark_on_the_disk_will_do(target: Target) -> None:
    (target.live / "run/holdfast/partition.json").unlink()
    assert target.put() == "none: the disks bear no mark: the installer would not know what they are"
    assert target.files() == set()
    mark = target.root / "var/lib/holdfast/partition.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    assert target.put().startswith("armed: ")
    assert target.handover()["holdfast/partition.json"][1] == b"{}"


def test_partition_that_starts_already_is_left_alone(target: Target) -> None:
    target.disk(table="dos", active=True)
    target.put()
    assert target.calls.read_text() == ""


@pytest.mark.parametrize(
    ("attributes", "asked"),
    [
        ("", "LegacyBIOSBootable"),
        ("RequiredPartition", "RequiredPartition,LegacyBIOSBootable"),
        ("LegacyBIOSBootable", ""),
    ],
)
def test_gpt_by_bios(target: Target, attributes: str, asked: str) -> None:
    target.disk(table="gpt")
    assert target.put(ATTRIBUTES=attributes).startswith("armed: by BIOS")
    assert target.boot_code == b"g" * 440
    disk = target.live / "dev/vda"
    calls = [f"sfdisk --part-attrs {disk} 1"]
    if asked:
        calls.append(f"sfdisk --quiet --no-reread --no-tell-kernel --part-attrs {disk} 1 {asked}")
    assert target.calls.read_text().splitlines() == calls


def test_bios_without_a_boot_partition(target: Target) -> None:
    target.mount("/boot")
    target.mount("", "ext4", "/dev/vda1")
    (target.root / "boot").rmdir()
    assert target.put() == "armed: by BIOS, /dev/vda1 boots the installer"
    assert "  INITRD /boot/holdfast/initrd,/boot/holdfast/handover\n" in (target.root / "boot/syslinux.cfg").read_text()


def test_bios_takes_the_esp_if_extlinux_cannot_read_the_root(target: Target) -> None:
    target.mount("/boot")
    target.mount("", "btrfs", "/dev/vda2")
    assert target.put() == f"none: extlinux can boot from no file system below {target.root}"
    target.mount("/boot/efi", "vfat", "/dev/vda1")
    assert target.put().startswith("armed: ")
    assert target.files("boot/efi") == BIOS_FILES
    assert "  LINUX /holdfast/kernel\n" in (target.root / "boot/efi/syslinux.cfg").read_text()


@pytest.mark.parametrize("place", ["/boot", "/boot/efi", "/efi"])
def test_uefi_disk_boots_the_installer(target: Target, place: str) -> None:
    target.uefi()
    target.mount("/boot", "ext4", "/dev/vda3")
    target.mount(place, "vfat", "/dev/vda1")
    assert target.put() == "armed: by UEFI, /dev/vda1 boots the installer"
    assert target.files(place[1:]) == UEFI_FILES
    boot = target.root / place[1:]
    assert (boot / "EFI/BOOT/BOOTX64.EFI").read_text() == "efi"
    assert (boot / "loader/loader.conf").read_text() == f"{MARK}\ndefault holdfast-standby.conf\ntimeout 0\n"
    assert (boot / "loader/entries/holdfast-standby.conf").read_text() == (
        f"{MARK}\ntitle Holdfast installer\nlinux /holdfast/kernel\ninitrd /holdfast/initrd\n"
        f"initrd /holdfast/handover\noptions {COMMAND_LINE}\n"
    )
    assert target.boot_code == b"o" * 440


@pytest.mark.parametrize(("machine", "file"), [("aarch64", "BOOTAA64.EFI"), ("riscv64", "BOOTRISCV64.EFI")])
def test_uefi_of_other_machines(target: Target, machine: str, file: str) -> None:
    target.uefi()
    assert target.put(MACHINE=machine).startswith("armed: ")
    assert f"EFI/BOOT/{file}" in target.files()


@pytest.mark.parametrize("uefi", [False, True])
def test_putting_it_again_changes_only_what_is_new(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    said = target.put()
    boot = target.root / "boot"
    kernel = (boot / "holdfast/kernel").stat().st_ino
    target.write("var/lib/tailscale/tailscaled.state", '{"profile-1": "newer"}')
    # There is no room for a second kernel and initrd, and none is needed.
    assert target.put(FREE_KIB=str(96 * 1024 + 20)) == said
    assert (boot / "holdfast/kernel").stat().st_ino == kernel
    archive = target.handover()["holdfast/tailscale-state.tar.gz"][1]
    assert b"newer" in gzip.decompress(archive)
    assert target.files() == (UEFI_FILES if uefi else BIOS_FILES)


@pytest.mark.parametrize("uefi", [False, True])
def test_once_armed_it_needs_nothing_in_ram(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    said = target.put()
    shutil.rmtree(target.ram)
    assert target.put() == f"{said} already"
    (target.root / "boot/holdfast/handover").unlink()
    assert target.put() == "none: the installer's kernel is not in its RAM"


@pytest.mark.parametrize("uefi", [False, True])
def test_remove_takes_away_all_of_it(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    (target.root / "boot/theirs").write_text("theirs")
    target.put()
    assert target.remove() == f"removed: the standby in {target.root}/boot"
    assert {path.name for path in (target.root / "boot").iterdir()} == {"theirs"}
    if not uefi:
        assert f"chattr -i {target.root}/boot/ldlinux.sys\n" in target.calls.read_text()
    assert target.remove() == f"none: there is no standby below {target.root}"


def test_secrets_are_overwritten_before_they_are_removed(target: Target) -> None:
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover = target.root / "boot/holdfast/handover"
    assert b"user=me" in handover.read_bytes()
    (target.root / "kept").hardlink_to(handover)
    size = handover.stat().st_size
    target.remove()
    left = (target.root / "kept").read_bytes()
    assert len(left) >= size
    assert left == bytes(len(left))


def test_remove_leaves_the_final_systems_extlinux(target: Target) -> None:
    target.put()
    boot = target.root / "boot"
    (boot / "syslinux.cfg").write_text("DEFAULT nixos\n")
    (boot / "ldlinux.sys").write_text("theirs")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"syslinux.cfg", "ldlinux.sys", "ldlinux.c32"}
    assert (boot / "ldlinux.sys").read_text() == "theirs"


def test_remove_leaves_the_final_systems_systemd_boot_even_if_it_is_the_same_file(target: Target) -> None:
    target.uefi()
    target.put()
    boot = target.root / "boot"
    (boot / "loader/loader.conf").write_text("default nixos-generation-1.conf\n")
    (boot / "loader/entries/nixos-generation-1.conf").write_text("title NixOS\n")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"EFI/BOOT/BOOTX64.EFI", "loader/loader.conf", "loader/entries/nixos-generation-1.conf"}


def test_remove_leaves_another_removable_boot_loader(target: Target) -> None:
    target.uefi()
    target.put()
    (target.root / "boot/EFI/BOOT/BOOTX64.EFI").write_text("grub")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"EFI/BOOT/BOOTX64.EFI"}


def test_remove_can_go_on_where_it_broke_off(target: Target) -> None:
    target.uefi()
    target.put()
    (target.root / "boot/EFI/BOOT/BOOTX64.EFI").unlink()
    (target.root / "boot/loader/loader.conf").unlink()
    assert target.remove().startswith("removed: ")
    assert target.files() == set()


@pytest.mark.parametrize(
    ("mounts", "crypt"),
    [
        ({"": ("ext4", "/dev/mapper/root")}, "/dev/mapper/root"),
        ({"": ("tmpfs", "tmpfs"), "/persist": ("btrfs", "/dev/mapper/persist")}, "/dev/mapper/persist"),
        ({"": ("zfs", "rpool/secret")}, ""),
        ({"": ("zfs", "pool/root")}, "/dev/mapper/pool"),
    ],
)
def test_nothing_beside_an_encrypted_root(target: Target, mounts: dict[str, tuple[str, str]], crypt: str) -> None:
    target.tool("zfs", "case $6 in *secret) echo aes-256-gcm ;; *) echo off ;; esac")
    target.tool("zpool", 'printf "pool\\t1G\\n\\t/dev/mapper/pool\\t1G\\n"')
    for place, (fstype, source) in mounts.items():
        target.mount(place, fstype, source)
    assert target.put(CRYPT=crypt) == "none: the root is encrypted and the boot partition is not"
    assert target.files() == set()
    assert target.boot_code == b"o" * 440


def test_plain_zfs_and_a_root_in_ram_are_no_secret(target: Target) -> None:
    target.tool("zfs", "echo off")
    target.tool("zpool", 'printf "pool\\t1G\\n\\t/dev/vda2\\t1G\\n"')
    target.mount("", "tmpfs", "tmpfs")
    target.mount("/nix", "zfs", "pool/nix")
    assert target.put().startswith("armed: ")


def test_what_cannot_be_looked_into_counts_as_encrypted(target: Target) -> None:
    target.tool("lsblk", "exit 32")
    assert target.put() == "none: it is not known whether /dev/vda2 is encrypted"


def test_too_little_room_is_said(target: Target) -> None:
    assert target.put(FREE_KIB="98304") == (
        f"none: too little room: {target.root}/boot has 96 MiB free, and 97 are needed"
    )
    assert target.files() == set()


@pytest.mark.parametrize(
    ("uefi", "lacking", "reason"),
    [
        (False, "etc/holdfast/standby/extlinux", "the image brings no extlinux"),
        (False, "etc/holdfast/standby/mbr.bin", "the image brings no extlinux"),
        (True, "etc/holdfast/standby/boot.efi", "the image brings no EFI boot loader"),
        (False, "run/holdfast/standby/initrd", "the installer's initrd is not in its RAM"),
        (False, "run/holdfast/standby/command-line", "the installer's command-line is not in its RAM"),
        (
            False,
            "var/lib/tailscale/tailscaled.state",
            "the installer has no Tailscale state: nobody would find it",
        ),
        (False, "sys/devices/pci/vda/vda1/partition", "/dev/vda1 is no partition of a disk"),
    ],
)
def test_what_is_lacking_is_said(target: Target, uefi: bool, lacking: str, reason: str) -> None:
    if uefi:
        target.uefi()
    (target.live / lacking).unlink()
    assert target.put() == f"none: {reason}"
    assert target.files() == set()


def test_disk_without_a_table_that_is_known(target: Target) -> None:
    target.disk(table="sun")
    assert target.put() == "none: /dev/vda has neither a GPT nor an msdos partition table"


@pytest.mark.parametrize(
    ("uefi", "file"), [(False, "syslinux.cfg"), (True, "loader/loader.conf"), (True, "EFI/BOOT/BOOTX64.EFI")]
)
def test_another_boot_loader_is_left_alone(target: Target, uefi: bool, file: str) -> None:
    if uefi:
        target.uefi()
    theirs = target.root / "boot" / file
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("theirs\n")
    assert target.put().startswith("none: ")
    assert target.files() == {file}
    assert theirs.read_text() == "theirs\n"
    assert target.remove().startswith("none: ")
    assert target.files() == {file}
    assert target.boot_code == b"o" * 440


def test_not_once_a_system_is_installed(target: Target) -> None:
    profile = target.root / "nix/var/nix/profiles/system"
    profile.parent.mkdir(parents=True)
    profile.symlink_to("system-1-link")
    assert target.put() == f"none: a system is installed at {target.root} already"
    assert target.files() == set()


def test_what_breaks_off_leaves_nothing(target: Target) -> None:
    (target.live / "etc/holdfast/standby/extlinux.fails").touch()
    done = target.run("put", target.root, target.ram)
    assert (done.returncode, done.stdout) == (3, "")
    assert target.files() == set()
    assert target.boot_code == b"o" * 440
    assert not list((target.live / "run/holdfast").glob("standby.*"))


def test_what_breaks_off_later_leaves_the_earlier_one(target: Target) -> None:
    target.put()
    (target.live / "etc/holdfast/standby/extlinux.fails").touch()
    assert target.run("put", target.root, target.ram).returncode == 3
    assert target.files() == BIOS_FILES


@pytest.mark.parametrize("words", [[], ["put"], ["put", "/", "/x"], ["put", "mnt", "/x"], ["remove"], ["arm", "/mnt"]])
def test_wrong_calls_are_refused(target: Target, words: list[str]) -> None:
    done = target.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr


def shown(target: Target) -> str:
    done = target.run("show", target.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((target.live / "run/holdfast").glob("standby.*"))
    return done.stdout.strip()


@pytest.mark.parametrize("uefi", [False, True])
def test_show_says_what_the_disk_boots(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    none = "none: the disk does not boot the installer"
    assert shown(target) == none
    said = target.put()
    shutil.rmtree(target.ram)
    # As nixos-install without a boot loader leaves it.
    profile = target.root / "nix/var/nix/profiles/system"
    profile.parent.mkdir(parents=True)
    profile.symlink_to("system-1-link")
    assert shown(target) == said
    assert target.put() == f"{said} already"
    if uefi:
        (target.root / "boot/EFI/BOOT/BOOTX64.EFI").write_text("another boot loader")
    else:
        disk = target.live / "dev/vda"
        disk.write_bytes(b"another boot loader".ljust(440) + disk.read_bytes()[440:])
    assert shown(target) == none
    target.remove()
    assert shown(target) == none
