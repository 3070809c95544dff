"""The recorded origins, and what Holdfast says of the way back of each. docs/origins.md is made of this table."""

import gzip
from collections.abc import Callable
from typing import Final, NamedTuple

from holdfast.plan.way_back.row import Verdict, WayBackRow
from tests.unit.origins import (
    FSTAB,
    GRUB_CFG,
    KERNEL,
    NEWER,
    STORE,
    Origin,
    alpine,
    debian,
    devuan,
    encrypted_debian,
    fedora,
    nixos,
    openwrt,
    ubuntu,
    void,
)

FINE, UNPROVED, STRANDS = Verdict.FINE, Verdict.UNPROVED, Verdict.STRANDS
BY_HAND = "/user.slice/user-0.slice/session-2.scope"
KEY_IN_INITRD = "root UUID=3 /etc/keys/root.key luks,initramfs\n"
LUKS_BOOT = "CRYPT-LUKS1-aa-boot"


class Case(NamedTuple):
    """An origin.

    Attributes:
        name: what it is.
        make: makes it.
        verdict: the worst verdict on it.
        said: words of each row that is not fine.
        gnu: whether it has GNU's programs; busybox' would see less.

    """

    name: str
    make: Callable[[], Origin]
    verdict: Verdict
    said: tuple[str, ...] = ()
    gnu: bool = False


def fine(name: str, make: Callable[[], Origin]) -> Case:
    return Case(name, make, FINE)


def unproved(name: str, make: Callable[[], Origin], *said: str) -> Case:
    return Case(name, make, UNPROVED, said)


def strands(name: str, make: Callable[[], Origin], *said: str) -> Case:
    return Case(name, make, STRANDS, said)


def _luks_nixos() -> Origin:
    return nixos().crypt("dm-0", "cryptroot", "sda2").mount("/dev/mapper/cryptroot", "/")


def _newc(*names: str) -> bytes:
    """Make an archive as an initrd is: `newc`, with empty files."""
    made = b""
    for name in (*names, "TRAILER!!!"):
        fields = [0, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + "".join(f"{number:08x}" for number in fields).encode() + name.encode() + b"\0"
        made += head + b"\0" * (-len(head) % 4)
    return made + b"\0" * (-len(made) % 512)


def _nixos_initrd(*names: str) -> Origin:
    """Make a NixOS whose initrd begins with microcode."""
    initrd = _newc("kernel", "kernel/x86/microcode") + gzip.compress(_newc("init", *names))
    return _luks_nixos().file(f"{STORE.lstrip('/')}/initrd", initrd)


def _docker(policy: str) -> Origin:
    made = debian().unit("tailscaled.service", state="", loaded="not-found").unit("docker.service")
    made.runs_tailscaled(f"/system.slice/docker-{'ab' * 32}.scope", parent="containerd-shim")
    return made.prints("docker", policy)


def _zfs(location: str) -> Origin:
    made = debian().mount("rpool/ROOT/debian", "/", "zfs").mount("/dev/sda1", "/boot").initrd("usr/sbin/zfs")
    told = f"case $* in *keylocation*) printf 'rpool\\t{location}\\n' ;; *encryptionroot*) echo rpool ;; esac"
    return made.tool("zfs", told)


NEW: Final = "6.1.0-42-amd64"


def _new_kernel() -> Origin:
    made = debian().changed("boot/grub/grub.cfg", GRUB_CFG.format(default="0", kernel=NEW))
    return made.changed(f"boot/vmlinuz-{NEW}", "k").changed(f"boot/initrd.img-{NEW}", "i")


def _on_lvm_on_luks() -> Origin:
    made = encrypted_debian().mapped("dm-1", "vg-root", "LVM-x", "dm-0")
    return made.mount("/dev/mapper/vg-root", "/").mount("/dev/mapper/vg-home", "/home")


def _in_ram() -> Origin:
    made = debian()
    overlay = "lowerdir=/media/root-ro,upperdir=/media/root-rw/upper,workdir=/media/root-rw/work"
    made.mounts = [
        "20 1 0:20 / /media/root-rw rw - tmpfs tmpfs-root rw",
        f"21 1 0:21 / / rw,relatime - overlay overlayroot rw,{overlay}",
    ]
    return made


def _hibernated(command_line: str) -> Origin:
    image = b"\0" * 4086 + b"S1SUSPEND\0"
    return debian().command_line(f"BOOT_IMAGE=/boot/vmlinuz-{KERNEL} {command_line}").file("dev/disk/by-uuid/2", image)


# How many of the table are systems without anything wrong.
FAMILIES: Final = 10
TABLE: Final = (
    # What comes back.
    fine("Debian 12", debian),
    fine("Debian 13, with systemd-networkd", lambda: debian().file("etc/systemd/network/lan.network", "[Match]\n")),
    fine("Ubuntu 22.04: LVM, netplan", lambda: ubuntu().unit("ssh.service").unit("ssh.socket", state="disabled")),
    fine("Ubuntu 24.04: sshd started by its socket", ubuntu),
    fine("Fedora: BLS entries, btrfs", fedora),
    fine("Alpine: OpenRC, extlinux, busybox", alpine),
    fine("NixOS: systemd-boot", nixos),
    fine("Void: runit", void),
    fine("Devuan: System V's init", devuan),
    fine("OpenWrt: procd, dropbear", openwrt),
    # Encryption.
    strands("LUKS with a passphrase", encrypted_debian, "a passphrase"),
    strands("LVM on LUKS with a passphrase", _on_lvm_on_luks, "/ (root on sda3) is encrypted"),
    fine(
        "LUKS, a key file in the initrd",
        lambda: encrypted_debian(KEY_IN_INITRD).file("etc/keys/root.key").initrd("cryptroot/keyfiles/root.key"),
    ),
    strands(
        "LUKS, a key file that is not in the initrd",
        lambda: encrypted_debian(KEY_IN_INITRD).file("etc/keys/root.key"),
        "a key file that is not in the initrd (/etc/keys/root.key)",
    ),
    strands(
        "LUKS, dropbear in the initrd",
        lambda: encrypted_debian().initrd("usr/sbin/dropbear"),
        "over SSH in the initrd (dropbear)",
    ),
    fine(
        "LUKS, Clevis with Tang",
        lambda: encrypted_debian().crypt("dm-0", "root", "sda3", pin="tang").initrd("usr/bin/clevis"),
    ),
    strands(
        "LUKS, Clevis that is not in the initrd",
        lambda: encrypted_debian().crypt("dm-0", "root", "sda3", pin="tpm2"),
        "Clevis (tpm2), which is not in the initrd",
    ),
    fine(
        "LUKS, TPM, dracut",
        lambda: (
            encrypted_debian("root UUID=3 none luks,tpm2-device=auto\n")
            .crypt("dm-0", "root", "sda3", tokens=("systemd-tpm2",))
            .file("sys/class/tpm/tpm0/x")
            .without("etc/initramfs-tools/initramfs.conf")
            .initrd("usr/bin/systemd-cryptsetup")
        ),
    ),
    strands(
        "LUKS, TPM, initramfs-tools",
        lambda: (
            encrypted_debian("root UUID=3 none luks,tpm2-device=auto\n")
            .crypt("dm-0", "root", "sda3", tokens=("systemd-tpm2",))
            .file("sys/class/tpm/tpm0/x")
        ),
        "a TPM that the initrd of initramfs-tools cannot ask",
    ),
    fine(
        "LUKS 1, Clevis by luksmeta",
        lambda: (
            encrypted_debian()
            .crypt("dm-0", "root", "sda3", kind="LUKS1")
            .prints("luksmeta", "0   active empty", "1   active cb6e8904-81ff-40da-a84a-07ab9ab5715e")
            .initrd("usr/bin/clevis")
        ),
    ),
    strands(
        "btrfs over two LUKS devices, one of them with a passphrase",
        lambda: (
            encrypted_debian(f"{KEY_IN_INITRD}other UUID=5 none luks\n")
            .initrd("cryptroot/keyfiles/root.key")
            .crypt("dm-1", "other", "sda2")
            .file("sys/fs/btrfs/0a-1b/devices/dm-0")
            .file("sys/fs/btrfs/0a-1b/devices/dm-1")
            .mount("/dev/mapper/root", "/", "btrfs")
        ),
        "/ (other on sda2) is encrypted, and opened by a passphrase",
    ),
    strands(
        "LUKS, FIDO2",
        lambda: encrypted_debian().crypt("dm-0", "root", "sda3", tokens=("systemd-fido2",)),
        "a FIDO2 key that somebody has to touch",
    ),
    unproved(
        "LUKS, a script of its own",
        lambda: encrypted_debian("root UUID=3 none luks,keyscript=/usr/local/sbin/from-the-net\n"),
        "a script (from-the-net)",
    ),
    fine(
        "LUKS under /srv, its key file on the root",
        lambda: (
            debian()
            .file("etc/crypttab", "srv UUID=4 /etc/keys/srv.key luks\n")
            .file("etc/keys/srv.key")
            .file("etc/fstab", f"{FSTAB}/dev/mapper/srv /srv ext4 defaults 0 2\n")
            .crypt("dm-0", "srv", "sda3")
            .mount("/dev/mapper/srv", "/srv")
        ),
    ),
    strands(
        "LUKS in crypttab alone, with a passphrase",
        lambda: debian().file("etc/crypttab", "backup UUID=4 none luks\n"),
        "backup (/etc/crypttab) is encrypted",
    ),
    fine(
        "LUKS in crypttab alone, noauto; a swap with a random key",
        lambda: debian().file("etc/crypttab", "backup UUID=4 none luks,noauto\nswap /dev/sda2 /dev/urandom swap\n"),
    ),
    strands(
        "an encrypted /boot",
        lambda: (
            encrypted_debian(KEY_IN_INITRD)
            .initrd("cryptroot/keyfiles/root.key")
            .mapped("dm-1", "boot", LUKS_BOOT, "sda2")
            .file("etc/crypttab", f"{KEY_IN_INITRD}boot UUID=5 /etc/keys/boot.key luks\n")
            .file("etc/keys/boot.key")
            .mount("/dev/mapper/boot", "/boot")
        ),
        "a passphrase that GRUB asks for",
    ),
    unproved("NixOS with LUKS, its initrd not readable", _luks_nixos, "something that only its initrd knows"),
    strands(
        "NixOS with LUKS, SSH in the initrd",
        lambda: _nixos_initrd("etc/ssh/ssh_host_ed25519_key", "nix/store/0a-openssh/bin/sshd"),
        "over SSH in the initrd (sshd)",
    )._replace(gnu=True),
    strands(
        "NixOS with LUKS and a passphrase", lambda: _nixos_initrd("bin/cryptsetup"), "opened by a passphrase"
    )._replace(gnu=True),
    unproved(
        "NixOS with LUKS, a key file in the initrd",
        lambda: _nixos_initrd("crypto_keyfile.bin"),
        "if the initrd uses the one that it has (crypto_keyfile.bin)",
    )._replace(gnu=True),
    strands("a ZFS root with a passphrase", lambda: _zfs("prompt"), "the ZFS rpool is encrypted"),
    strands("a ZFS root, its key file gone", lambda: _zfs("file:///etc/zfs/key"), "a key file that is not there"),
    # tailscaled and sshd.
    strands(
        "tailscaled disabled",
        lambda: debian().unit("tailscaled.service", state="disabled"),
        "tailscaled.service is disabled",
    ),
    strands(
        "tailscaled masked",
        lambda: debian().unit("tailscaled.service", state="masked", loaded="masked"),
        "tailscaled.service is masked",
    ),
    strands(
        "tailscaled enabled until the next boot only",
        lambda: debian().unit("tailscaled.service", state="enabled-runtime", boot=True),
        "tailscaled.service is enabled-runtime",
    ),
    strands(
        "tailscaled wanted by a target that the boot does not reach",
        lambda: debian().unit("tailscaled.service", boot=False, WantedBy="graphical.target"),
        "tailscaled.service is enabled",
    ),
    strands(
        "tailscaled started by hand",
        lambda: debian().unit("tailscaled.service", state="", loaded="not-found").runs_tailscaled(BY_HAND, parent="sh"),
        "tailscaled was started by hand (session-2.scope)",
    ),
    strands(
        "tailscaled started by hand, as a unit of systemd-run",
        lambda: (
            debian()
            .unit("tailscaled.service", state="disabled")
            .unit("run-u7.service", state="transient", FragmentPath="/run/systemd/transient/run-u7.service", boot=False)
            .runs_tailscaled("/system.slice/run-u7.service")
        ),
        "run-u7.service is transient",
    ),
    unproved(
        "tailscaled started by hand, its unit enabled",
        lambda: debian().runs_tailscaled(BY_HAND, parent="sh"),
        "at boot, tailscaled.service starts another",
    ),
    fine("tailscaled in a container that Docker starts at boot", lambda: _docker("unless-stopped")),
    strands(
        "tailscaled in a container that Docker does not start", lambda: _docker("no"), "does not start at boot (no)"
    ),
    fine(
        "tailscaled in a quadlet of Podman",
        lambda: (
            debian()
            .unit("tailscaled.service", state="", loaded="not-found")
            .unit("tailscale.service", state="generated", boot=True)
            .runs_tailscaled("/system.slice/tailscale.service/libpod-payload-0a1b", parent="conmon")
        ),
    ),
    fine(
        "tailscaled from cron, @reboot",
        lambda: (
            debian()
            .unit("tailscaled.service", state="disabled")
            .unit("cron.service")
            .file("var/spool/cron/crontabs/root", "@reboot /usr/sbin/tailscaled --tun=userspace-networking\n")
            .runs_tailscaled("/system.slice/cron.service", parent="cron")
        ),
    ),
    fine(
        "tailscaled from rc.local",
        lambda: devuan().without("etc/rc2.d/S03tailscaled").file("etc/rc.local", "#!/bin/sh\n/usr/sbin/tailscaled &\n"),
    ),
    strands(
        "Alpine, tailscale not in a runlevel",
        lambda: alpine().without("etc/runlevels/default/tailscale").runs_tailscaled("/", parent="ash"),
        "nothing starts tailscaled at boot",
    ),
    strands(
        "Devuan, tailscaled started by hand",
        lambda: devuan().without("etc/rc2.d/S03tailscaled").runs_tailscaled("/", parent="bash"),
        "what runs was started by hand (bash)",
    ),
    strands(
        "OpenWrt, tailscale not enabled",
        lambda: openwrt().without("etc/rc.d/S80tailscale"),
        "nothing starts tailscaled at boot",
    ),
    strands(
        "Void, the service has a file named down",
        lambda: (
            void().without("etc/runit/runsvdir/default/tailscaled").file("etc/runit/runsvdir/default/tailscaled/down")
        ),
        "nothing starts tailscaled at boot",
    ),
    strands(
        "sshd disabled",
        lambda: debian().unit("ssh.service", state="disabled"),
        "systemd does not start the SSH server at boot (ssh.service is disabled)",
    ),
    fine(
        "sshd disabled, the login by Tailscale SSH",
        lambda: (
            debian()
            .unit("ssh.service", state="disabled")
            .serves_login("tailscaled", "/system.slice/tailscaled.service")
        ),
    ),
    fine(
        "Tailscale SSH, whose children are named tailscaled",
        lambda: (
            debian()
            .serves_login("tailscaled", "/system.slice/tailscaled.service")
            .process(901, "tailscaled", parent=900, cgroup=BY_HAND)
        ),
    ),
    # What has changed.
    unproved(
        "a kernel installed and never booted",
        _new_kernel,
        f"/boot/vmlinuz-{NEW} (2025-11-29)",
        f"the default of GRUB is Debian GNU/Linux, /boot/vmlinuz-{NEW}, and {KERNEL} runs",
    ),
    unproved(
        "an initrd built again",
        lambda: debian().changed(f"boot/initrd.img-{KERNEL}"),
        f"since then changed: /boot/initrd.img-{KERNEL} (2025-11-29)",
    ),
    unproved(
        "a network configuration that is new",
        lambda: ubuntu().changed("etc/netplan/60-static.yaml", "network: {}\n"),
        "/etc/netplan/60-static.yaml",
    ),
    fine(
        "files that the boot itself wrote",
        lambda: ubuntu().changed("etc/netplan/50-cloud-init.yaml", days=0.002).changed("boot/grub/grubenv", ""),
    ),
    fine(
        "tailscaled upgraded, and started again since",
        lambda: (
            debian()
            .changed("usr/lib/systemd/system/tailscaled.service")
            .runs_tailscaled("/system.slice/tailscaled.service", after_s=6 * 86400)
        ),
    ),
    unproved(
        "tailscaled's unit changed, and not started again",
        lambda: debian().changed("etc/systemd/system/tailscaled.service.d/state.conf"),
        "/etc/systemd/system/tailscaled.service.d/state.conf",
    ),
    unproved(
        "NixOS, a newer generation not booted yet",
        lambda: (
            nixos()
            .link("nix/var/nix/profiles/system", "system-8-link")
            .link("nix/var/nix/profiles/system-8-link", NEWER)
        ),
        "nixos-system-cottage-25.11 next",
    ),
    unproved(
        "a clock that is wrong",
        lambda: debian().file("proc/stat", "btime 120\n"),
        "its clock does not tell when it booted",
    ),
    # The boot loader.
    unproved(
        "GRUB, another entry for the next boot only",
        lambda: debian().file("boot/grub/grubenv", "next_entry=gnulinux-6.1.0-30-amd64-advanced-1\n"),
        "GRUB starts gnulinux-6.1.0-30-amd64-advanced-1 the next time only",
    ),
    unproved(
        "GRUB, an older kernel saved as the default",
        lambda: (
            debian()
            .file("boot/grub/grub.cfg", GRUB_CFG.format(default="${saved_entry}", kernel=KERNEL))
            .file("boot/grub/grubenv", "saved_entry=gnulinux-advanced-1>gnulinux-6.1.0-30-amd64-advanced-1\n")
        ),
        "/boot/vmlinuz-6.1.0-30-amd64",
    ),
    strands(
        "GRUB, the kernel of the default removed",
        lambda: debian().without(f"boot/vmlinuz-{KERNEL}"),
        f"needs /boot/vmlinuz-{KERNEL}, which is missing or empty",
    ),
    strands(
        "Alpine, the initrd of the default removed",
        lambda: alpine().without("boot/initramfs-lts"),
        "needs initramfs-lts, which is missing or empty",
    ),
    unproved(
        "Fedora, an older kernel saved as the default",
        lambda: fedora().file("boot/grub2/grubenv", "saved_entry=0a1b-6.1.0-30-amd64\n"),
        "the default of GRUB is 0a1b-6.1.0-30-amd64.conf",
    ),
    fine(
        "Fedora, a menu with the firmware's settings besides",
        lambda: fedora().file(
            "boot/grub2/grub.cfg",
            "set default=\"${saved_entry}\"\nblscfg\nmenuentry 'UEFI Firmware Settings' {\n\tfwsetup\n}\n",
        ),
    ),
    unproved(
        "GRUB, another system is the default",
        lambda: debian().file(
            "boot/grub/grub.cfg",
            "set default=\"1\"\nmenuentry 'Debian' {\n}\n"
            "menuentry 'Arch' $menuentry_id_option 'osprober-gnulinux-x' {\n"
            "\tlinux /boot/vmlinuz-6.18-arch root=/dev/sda3\n}\n",
        ),
        "the default of GRUB is Arch, /boot/vmlinuz-6.18-arch",
    ),
    unproved(
        "systemd-boot, another entry for the next boot only",
        lambda: nixos().file(
            "sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
            b"\x06\0\0\0" + "nixos-generation-6.conf\0".encode("utf-16-le"),
        ),
        "systemd-boot starts nixos-generation-6.conf the next time only",
    ),
    unproved(
        "UEFI, the firmware tries another entry first",
        lambda: (
            debian()
            .file("sys/firmware/efi/efivars/BootCurrent-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x03\0")
            .file("sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x07\0\0\0\0\0\x03\0")
        ),
        "the firmware tries its entry 0000 first, and has started 0003",
    ),
    strands(
        "an initrd that is empty, as after a full /boot",
        lambda: debian().file(f"boot/initrd.img-{KERNEL}", ""),
        f"needs /boot/initrd.img-{KERNEL}, which is missing or empty",
    ),
    # File systems.
    strands(
        "a root that has become read-only, with errors",
        lambda: debian().mount("/dev/sda1", "/", state="ro").file("sys/fs/ext4/sda1/errors_count", "3\n"),
        "the root (ext4 on sda1) has become read-only, with 3 errors",
    ),
    unproved(
        "ext4 with errors",
        lambda: debian().file("sys/fs/ext4/sda1/errors_count", "3\n"),
        "ext4 on sda1 (/) has counted 3 errors",
    ),
    unproved(
        "btrfs with errors",
        lambda: fedora().file("sys/fs/btrfs/0a-1b/devinfo/1/error_stats", "write_errs 2\nread_errs 5\n"),
        "btrfs on 0a-1b has counted 7 errors",
    ),
    strands(
        "a disk of fstab that is gone",
        lambda: debian().file("etc/fstab", f"{FSTAB}UUID=9 /data ext4 defaults 0 2\n"),
        "/etc/fstab has UUID=9 at /data, and that device is not there",
    ),
    fine(
        "a disk of fstab that is gone, with nofail; network file systems",
        lambda: debian().file(
            "etc/fstab",
            f"{FSTAB}UUID=9 /data ext4 defaults,nofail 0 2\n//nas/x /mnt/x cifs password=POISON 0 0\n"
            "nas:/y /mnt/y nfs defaults 0 0\nUUID=8 /usb ext4 noauto 0 0\nUUID=7 none swap sw 0 0\n",
        ),
    ),
    strands(
        "a root in RAM: an overlay over a file system that stays",
        _in_ram,
        "/var/lib/tailscale lies in RAM (tmpfs)",
    ),
    fine("a root in RAM, the Tailscale state on a disk", lambda: _in_ram().mount("/dev/sda1", "/var/lib/tailscale")),
    strands(
        "a hibernation image that the boot would resume",
        lambda: _hibernated("root=UUID=1 resume=UUID=2"),
        "UUID=2 holds the image of a hibernation",
    ),
    unproved(
        "a hibernation image that nothing resumes",
        lambda: _hibernated("root=UUID=1"),
        "UUID=2 holds the image of a hibernation",
    ),
)


def worst(rows: tuple[WayBackRow, ...]) -> Verdict:
    """Return the worst verdict of the rows."""
    found = {row.verdict for row in rows}
    return next((verdict for verdict in (STRANDS, UNPROVED) if verdict in found), FINE)
