"""Origins made of a few lines each: folders that stand for their roots, over which way-back.sh really runs.

    debian().unit("tailscaled.service", state="disabled")     another state of a unit
    debian().changed("boot/grub/grub.cfg")                      a file that was put there after the boot

`Origin.look` runs the script, with no programs but those that it may count on, and parses its answer.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.base.settings import script
from holdfast.facts.way_back import WayBackFacts, parse_way_back

BOOTED = 1_764_000_000  # 2025-11-24
DAY = 86400
KERNEL = "6.1.0-41-amd64"
# What the script may call. Anything else is there only if a test puts it there.
PROGRAMS = (
    *("base64", "cat", "cut", "date", "dd", "grep", "head", "ls", "od", "readlink", "sed", "sha256sum", "sort", "tail"),
    *("tr", "wc", "cpio", "gzip", "timeout"),
)
SHELLS = ("dash", "busybox")


@dataclass
class Origin:
    """An origin.

    Attributes:
        files: its files, by their paths in its root.
        links: its symbolic links.
        tools: its programs: what each does, as shell; one that it lacks is empty.
        units: systemd's properties of its units.
        at_boot: the units that systemd starts at boot.
        when: when files were put there, in seconds since 1970; the others a month before the boot.
        mounts: lines of mountinfo.

    """

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    at_boot: list[str] = field(default_factory=list)
    when: dict[str, int] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)

    def file(self, path: str, content: str | bytes = "") -> "Origin":
        self.files[path] = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        return self

    def link(self, path: str, target: str) -> "Origin":
        self.links[path] = target
        return self

    def tool(self, name: str, text: str) -> "Origin":
        self.tools[name] = text
        return self

    def prints(self, name: str, *lines: str) -> "Origin":
        """Have a program that prints lines, whatever it is asked."""
        return self.tool(name, "cat <<'END'\n" + "\n".join(lines) + "\nEND")

    def without(self, *paths: str) -> "Origin":
        for path in paths:
            self.files.pop(path, None)
            self.links.pop(path, None)
        return self

    def changed(self, path: str, content: str | bytes | None = None, *, days: float = 5) -> "Origin":
        """Have a file put there so many days after the boot."""
        if content is not None or path not in self.files:
            self.file(path, content or "")
        self.when[path] = BOOTED + int(days * DAY)
        return self

    def unit(
        self, name: str, *, state: str = "enabled", loaded: str = "loaded", boot: bool | None = None, **more: str
    ) -> "Origin":
        """Have a unit, started at boot if it is enabled, or as the test says."""
        path = f"/usr/lib/systemd/system/{name}" if loaded == "loaded" else ""
        told = {"Id": name, "LoadState": loaded, "UnitFileState": state, "FragmentPath": path}
        self.units[name] = told | more
        self.at_boot = [one for one in self.at_boot if one != name]
        if boot if boot is not None else state.startswith("enabled"):
            self.at_boot.append(name)
        return self

    def mount(self, source: str, place: str, kind: str = "ext4", state: str = "rw") -> "Origin":
        self.mounts = [line for line in self.mounts if f" {place} rw,relatime" not in line]
        self.mounts.append(f"27 1 8:2 / {place} rw,relatime shared:1 - {kind} {source} {state},errors=remount-ro")
        return self

    def process(self, pid: int, name: str, *, parent: int = 1, cgroup: str = "/", after_s: int = 20) -> "Origin":
        """Have a process; `after_s` is how long after the boot it was started."""
        return (
            self.file(f"proc/{pid}/comm", f"{name}\n")
            .file(f"proc/{pid}/stat", f"{pid} ({name}) S {parent} {' 0' * 17} {after_s * 100} 0 0\n")
            .file(f"proc/{pid}/cgroup", f"0::{cgroup}\n")
        )

    def runs_tailscaled(self, cgroup: str, *, parent: str = "systemd", after_s: int = 20) -> "Origin":
        if parent != "systemd":
            self.process(899, parent)
        return self.process(900, "tailscaled", parent=1 if parent == "systemd" else 899, cgroup=cgroup, after_s=after_s)

    def serves_login(self, name: str = "sshd", cgroup: str = "/system.slice/ssh.service") -> "Origin":
        session = {"sshd": "sshd-session"}.get(name, name)
        self.process(812, name, cgroup=cgroup).process(3990, session, parent=812, cgroup="/user.slice/session-3.scope")
        return self.file("proc/self/stat", "4000 (sh) S 3990 4000 4000 0 -1 0\n")

    def command_line(self, text: str) -> "Origin":
        return self.file("proc/cmdline", f"{text}\n")

    def disk(self, name: str, *parts: str) -> "Origin":
        self.file(f"sys/devices/block/{name}/size", "1\n").link(
            f"sys/class/block/{name}", f"../../devices/block/{name}"
        )
        self.file(f"dev/{name}")
        for part in parts:
            self.file(f"sys/devices/block/{name}/{part}/partition", "1\n").file(f"dev/{part}")
            self.link(f"sys/class/block/{part}", f"../../devices/block/{name}/{part}")
        return self

    def mapped(self, device: str, name: str, uuid: str, *lower: str) -> "Origin":
        """Have a device of device mapper, which lies on others."""
        folder = f"sys/devices/virtual/block/{device}"
        self.file(f"{folder}/dm/name", f"{name}\n").file(f"{folder}/dm/uuid", f"{uuid}\n")
        self.file(f"dev/{device}").link(f"dev/mapper/{name}", f"../{device}")
        self.link(f"sys/class/block/{device}", f"../../devices/virtual/block/{device}")
        for one in lower:
            self.file(f"{folder}/slaves/{one}")
        return self

    def crypt(
        self, device: str, name: str, lower: str, *, kind: str = "LUKS2", tokens: tuple[str, ...] = (), pin: str = ""
    ) -> "Origin":
        """Have an encrypted device, with tokens in its header."""
        made = [{"type": token, "keyslots": ["1"]} for token in tokens]
        if pin:
            protected = base64.urlsafe_b64encode(json.dumps({"clevis": {"pin": pin}}).encode()).decode().rstrip("=")
            made.append({"type": "clevis", "keyslots": ["1"], "jwe": {"protected": protected, "iv": "x"}})  # type: ignore[dict-item]
        header = {"keyslots": {"0": {"type": "luks2"}}, "tokens": {str(n): token for n, token in enumerate(made)}}
        written = json.dumps(header, separators=(",", ":")).encode()
        self.file(f"dev/{lower}", b"LUKS\xba\xbe\x00\x02".ljust(4096, b"\0") + written.ljust(12288, b"\0"))
        return self.mapped(device, name, f"CRYPT-{kind}-{'0a' * 16}-{name}", lower)

    def initrd(self, *names: str) -> "Origin":
        """Have an initrd with these files, as Debian's lsinitramfs lists them."""
        return self.prints("lsinitramfs", "conf/arch.conf", "init", *names)

    def look(self, folder: Path, shell: str = "dash") -> WayBackFacts:
        """Run way-back.sh over it, and parse its answer."""
        return parse_way_back(self.run(folder, shell), "cottage")

    def run(self, folder: Path, shell: str = "dash") -> str:
        root, tools = folder / "root", folder / "tools"
        self._make(root)
        stat = shutil.which("stat") if shell == "dash" else f"{folder}/busybox/stat"
        given = {
            # The time when a file was put there cannot be set: it is the time of its content here.
            "stat": f'format=$(printf %s "$3" | sed s/%Z/%Y/); shift 4; exec {stat} -L -c "$format" -- "$@"',
            "uname": f"echo {KERNEL}",
        }
        if self.units:
            given["systemctl"] = _systemctl(folder, self.units, self.at_boot)
        tools.mkdir(exist_ok=True)
        for name, text in (given | self.tools).items():
            if not text:
                continue
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        if shell == "busybox":
            (folder / "busybox").mkdir()
            subprocess.run(["busybox", "--install", "-s", str(folder / "busybox")], check=True)
            argv, path = [str(folder / "busybox" / "sh")], folder / "busybox"
        else:
            argv, path = ["/bin/dash"], folder / "programs"
            path.mkdir(exist_ok=True)
            for name in PROGRAMS:
                found = shutil.which(name)
                assert found or name == "cpio", name
                if found and not (path / name).exists():
                    (path / name).symlink_to(found)
        done = subprocess.run(
            [*argv, "-s"],
            input=script("origin/way-back.sh").encode(),
            capture_output=True,
            env={"PATH": f"{tools}:{path}", "HOLDFAST_ROOT": str(root)},
            check=True,
            timeout=60,
        )
        assert not done.stderr, done.stderr.decode()
        assert b"POISON" not in done.stdout
        return done.stdout.decode("utf-8", "replace")

    def _make(self, root: Path) -> None:
        mountinfo = "".join(f"{line}\n" for line in self.mounts)
        for name, content in ({"proc/self/mountinfo": mountinfo.encode()} | self.files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if content.startswith(b"#!") else 0o644)
            at = self.when.get(name, BOOTED - 30 * DAY)
            os.utime(path, (at, at))
        for name, target in self.links.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)


def _systemctl(folder: Path, units: Mapping[str, Mapping[str, str]], at_boot: list[str]) -> str:
    """Make a systemctl that knows these units."""
    made = folder / "units"
    made.mkdir(exist_ok=True)
    for name, told in units.items():
        (made / name).write_text("".join(f"{key}={value}\n" for key, value in told.items()) + "\n")
    listed = "\n".join(["multi-user.target", *(f"  {name}" for name in at_boot)])
    return f"""case $1 in
get-default) echo multi-user.target ;;
list-dependencies) cat <<'END'
{listed}
END
;;
show)
	while [ "$1" != -- ]; do shift; done
	shift
	for unit; do
		cat "{made}/$unit" 2>/dev/null || printf 'Id=%s\\nLoadState=not-found\\nUnitFileState=\\n\\n' "$unit"
	done
	;;
esac"""


# The families: what such a machine looks like when it comes back.

GRUB_CFG = """set default="{default}"
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {{
	linux	/boot/vmlinuz-{kernel} root=UUID=1 ro quiet password=POISON
	initrd	/boot/initrd.img-{kernel}
}}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {{
	menuentry 'Debian GNU/Linux, with Linux {kernel}' $menuentry_id_option 'gnulinux-{kernel}-advanced-1' {{
		linux	/boot/vmlinuz-{kernel} root=UUID=1 ro
		initrd	/boot/initrd.img-{kernel}
	}}
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-30-amd64' $menuentry_id_option 'gnulinux-6.1.0-30-amd64-advanced-1' {{
		linux	/boot/vmlinuz-6.1.0-30-amd64 root=UUID=1 ro
		initrd	/boot/initrd.img-6.1.0-30-amd64
	}}
}}
"""
FSTAB = "UUID=1 / ext4 errors=remount-ro 0 1\nUUID=2 none swap sw 0 0\n"


def base(init: str) -> Origin:
    """Make what every origin has."""
    return (
        Origin()
        .file("proc/stat", f"cpu 1 2 3\nbtime {BOOTED}\n")
        .file("proc/1/comm", f"{init}\n")
        .file("proc/swaps", "Filename Type Size Used Priority\n")
        .command_line(f"BOOT_IMAGE=/boot/vmlinuz-{KERNEL} root=UUID=1 ro quiet secret=POISON")
        .file("etc/fstab", FSTAB)
        .file("dev/disk/by-uuid/1")
        .file("dev/disk/by-uuid/2")
        .disk("sda", "sda1", "sda2", "sda3")
        .mount("/dev/sda1", "/")
    )


def systemd(ssh: str = "ssh.service") -> Origin:
    return (
        base("systemd")
        .file("run/systemd/system/x")
        .unit("tailscaled.service", WantedBy="multi-user.target")
        .unit(ssh, WantedBy="multi-user.target")
        .runs_tailscaled("/system.slice/tailscaled.service")
        .serves_login(cgroup=f"/system.slice/{ssh}")
    )


def debian() -> Origin:
    made = systemd().file("boot/grub/grub.cfg", GRUB_CFG.format(default="0", kernel=KERNEL))
    made.file("etc/network/interfaces", "auto lo\niface lo inet loopback\n").file("etc/initramfs-tools/initramfs.conf")
    for kernel in (KERNEL, "6.1.0-30-amd64"):
        made.file(f"boot/vmlinuz-{kernel}", "k" * 100).file(f"boot/initrd.img-{kernel}", "i" * 100)
    return made


def encrypted_debian(crypttab: str = "root UUID=3 none luks,discard\n") -> Origin:
    """Make a Debian with an encrypted root, and /boot beside it."""
    return (
        debian()
        .file("etc/crypttab", f"# <target> <source> <key> <options>\n{crypttab}")
        .crypt("dm-0", "root", "sda3")
        .mount("/dev/mapper/root", "/")
        .mount("/dev/sda1", "/boot")
        .initrd("usr/sbin/cryptsetup")
    )


def ubuntu() -> Origin:
    """Make an Ubuntu on LVM, with netplan, and an sshd that a socket starts."""
    return (
        debian()
        .without("etc/network/interfaces")
        .file("etc/netplan/50-cloud-init.yaml", "network: {version: 2}\n")
        .mapped("dm-0", "ubuntu--vg-ubuntu--lv", "LVM-abc", "sda3")
        .mount("/dev/mapper/ubuntu--vg-ubuntu--lv", "/")
        .mount("/dev/sda2", "/boot")
        .unit("ssh.service", state="disabled", TriggeredBy="ssh.socket")
        .unit("ssh.socket", WantedBy="sockets.target")
    )


def fedora() -> Origin:
    """Make a Fedora: entries by the Boot Loader Specification, btrfs."""
    made = systemd("sshd.service").command_line(
        f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{KERNEL} root=UUID=1 ro rootflags=subvol=root"
    )
    made.file("boot/grub2/grub.cfg", 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n')
    made.file("boot/grub2/grubenv", f"# GRUB Environment Block\nsaved_entry=0a1b-{KERNEL}\nboot_success=1\n")
    for kernel in (KERNEL, "6.1.0-30-amd64"):
        made.file(f"boot/vmlinuz-{kernel}", "k").file(f"boot/initramfs-{kernel}.img", "i")
        made.file(
            f"boot/loader/entries/0a1b-{kernel}.conf",
            f"title Fedora Linux ({kernel})\nversion {kernel}\nlinux /vmlinuz-{kernel}\n"
            f"initrd /initramfs-{kernel}.img\noptions root=UUID=1 secret=POISON\n",
        )
    made.file("etc/NetworkManager/system-connections/lan.nmconnection", "[wifi-security]\npsk=POISON\n")
    made.file("etc/fstab", "UUID=1 / btrfs subvol=root,compress=zstd:1 0 0\n")
    made.file("sys/fs/btrfs/0a-1b/devices/sda3").file("sys/fs/btrfs/0a-1b/devinfo/1/error_stats", "write_errs 0\n")
    return made.mount("/dev/sda3", "/", "btrfs").mount("/dev/sda3", "/home", "btrfs").mount("/dev/sda2", "/boot")


def alpine() -> Origin:
    """Make an Alpine: OpenRC, extlinux, busybox."""
    made = base("init").command_line("BOOT_IMAGE=vmlinuz-lts root=UUID=1 modules=ext4 quiet")
    made.file("boot/vmlinuz-lts", "k").file("boot/initramfs-lts", "i").file(
        "etc/init.d/tailscale", "#!/sbin/openrc-run\n"
    )
    made.file(
        "boot/extlinux.conf",
        "DEFAULT menu.c32\nPROMPT 0\nLABEL lts\n  MENU DEFAULT\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n"
        "  APPEND root=UUID=1 secret=POISON\n",
    )
    for service in ("sshd", "tailscale", "chronyd"):
        made.link(f"etc/runlevels/default/{service}", f"/etc/init.d/{service}")
    return made.runs_tailscaled("/openrc.tailscale", parent="supervise-daemon").serves_login(cgroup="/openrc.sshd")


STORE = "/nix/store/" + "a" * 32 + "-nixos-system-cottage-25.05"
NEWER = "/nix/store/" + "b" * 32 + "-nixos-system-cottage-25.11"


def nixos() -> Origin:
    """Make a NixOS with systemd-boot."""
    variable = "sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    made = systemd("sshd.service").file("etc/NIXOS").link("run/booted-system", STORE)
    made.command_line(f"initrd=\\EFI\\nixos\\x-initrd.efi init={STORE}/init root=fstab")
    made.link("nix/var/nix/profiles/system", "system-7-link").link("nix/var/nix/profiles/system-7-link", STORE)
    made.file("boot/loader/loader.conf", "timeout 5\ndefault nixos-generation-7.conf\n")
    made.file("boot/EFI/nixos/x-bzImage.efi", "k").file("boot/EFI/nixos/x-initrd.efi", "i")
    for number in (6, 7):
        made.file(
            f"boot/loader/entries/nixos-generation-{number}.conf",
            "title NixOS\nlinux /EFI/nixos/x-bzImage.efi\ninitrd /EFI/nixos/x-initrd.efi\n",
        )
    made.file(variable, b"\x06\0\0\0" + "nixos-generation-7.conf\0".encode("utf-16-le"))
    return made.mount("/dev/sda1", "/boot", "vfat").mount("/dev/sda2", "/")


def openwrt() -> Origin:
    """Make an OpenWrt: procd, dropbear, an overlay as its root, no stat."""
    made = base("procd").without("etc/fstab").command_line("console=ttyS0 root=/dev/sda2")
    made.mounts = ["1 0 0:12 / / rw - overlay overlayfs:/overlay rw", "2 1 8:2 / /rom ro - squashfs /dev/root ro"]
    for name in ("S19dropbear", "S80tailscale"):
        made.link(f"etc/rc.d/{name}", f"../init.d/{name[3:]}")
    made.file("etc/config/network", "config interface 'lan'\n").file("etc/config/tailscale", "config tailscale\n")
    return made.runs_tailscaled("/services/tailscale", parent="procd").serves_login("dropbear", "/services/dropbear")


def void() -> Origin:
    """Make a Void: runit, GRUB."""
    made = base("runit").file("boot/grub/grub.cfg", GRUB_CFG.format(default="0", kernel=KERNEL).replace(".img", ""))
    made.file(f"boot/vmlinuz-{KERNEL}", "k").file(f"boot/initrd-{KERNEL}", "i")
    for service in ("sshd", "tailscaled"):
        made.link(f"etc/runit/runsvdir/default/{service}", f"/etc/sv/{service}")
    return made.runs_tailscaled("/", parent="runsv").serves_login(cgroup="/")


def devuan() -> Origin:
    """Make a Devuan: System V's init."""
    made = base("init").file("etc/inittab", "id:2:initdefault:\n").file("etc/init.d/tailscaled", "#!/bin/sh\n")
    made.file("boot/grub/grub.cfg", GRUB_CFG.format(default="0", kernel=KERNEL))
    made.file(f"boot/vmlinuz-{KERNEL}", "k").file(f"boot/initrd.img-{KERNEL}", "i")
    for name in ("S02ssh", "S03tailscaled", "S01cron"):
        made.link(f"etc/rc2.d/{name}", f"../init.d/{name[3:]}")
    return made.runs_tailscaled("/", parent="init").serves_login(cgroup="/")
