"""More recorded origins: kinds of systems, boot loaders and encryption that the first table does not have."""

from typing import Final

from tests.unit.origins import (
    FSTAB,
    GRUB_CFG,
    KERNEL,
    STORE,
    Origin,
    alpine,
    base,
    debian,
    encrypted_debian,
    fedora,
    nixos,
    systemd,
)
from tests.unit.origins_table import TABLE, fine, strands, unproved

_SELECTED: Final = "sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_OF_USER: Final = "/user.slice/user-1000.slice/user@1000.service"
_SRV: Final = f"{FSTAB}/dev/mapper/srv /srv ext4 nofail 0 2\n"


def _arch(options: str) -> Origin:
    """Make an Arch with systemd-boot, mkinitcpio's sd-encrypt, and no crypttab."""
    made = systemd("sshd.service").without("etc/fstab").file(_SELECTED, b"\6\0\0\0" + "arch.conf\0".encode("utf-16-le"))
    made.command_line(rf"initrd=\intel-ucode.img initrd=\initramfs-linux.img rd.luks.name=1-2=root {options}")
    for name in ("vmlinuz-linux", "initramfs-linux.img", "intel-ucode.img"):
        made.file(f"boot/{name}", "x")
    made.file("boot/loader/loader.conf", "default  arch.conf\ntimeout 3\n").file(
        "boot/loader/entries/arch.conf",
        "linux /vmlinuz-linux\ninitrd /intel-ucode.img\ninitrd /initramfs-linux.img\n",
    )
    made.prints("lsinitcpio", "init", "usr/bin/cryptsetup", "usr/lib/systemd/systemd-cryptsetup")
    return made.crypt("dm-0", "root", "sda3").mount("/dev/mapper/root", "/").mount("/dev/sda1", "/boot", "vfat")


def _grub(text: str) -> Origin:
    return debian().file("boot/grub/grub.cfg", text)


def _password(more: str = "") -> Origin:
    menu = GRUB_CFG.format(default="0", kernel=KERNEL).replace("--class debian", f"--class debian {more}")
    return _grub(f'set superusers="root"\npassword_pbkdf2 root grub.pbkdf2.POISON\n{menu}')


def _timeout(first: int, last: int) -> Origin:
    menu = GRUB_CFG.format(default="0", kernel=KERNEL)
    return _grub(f'if [ "${{recordfail}}" = 1 ] ; then\n  set timeout={first}\nelse\n  set timeout={last}\nfi\n{menu}')


def _nixos_grub(before: str) -> Origin:
    """Make a NixOS with GRUB on btrfs, which names its kernels by the subvolume that they lie on."""
    made = nixos().without("boot/loader/loader.conf", _SELECTED, "boot/loader/entries/nixos-generation-6.conf")
    made.without("boot/loader/entries/nixos-generation-7.conf").mount("/dev/sda2", "/", "btrfs")
    made.command_line(f"BOOT_IMAGE=(hd0,gpt2){before}/k-linux/bzImage init={STORE}/init")
    return made.file(
        "boot/grub/grub.cfg",
        f'set default="0"\nmenuentry "NixOS" --unrestricted {{\n  linux ($drive1){before}/k-linux/bzImage init=x\n'
        f"  initrd ($drive1){before}/i-initrd/initrd\n}}\n",
    )


def _opensuse() -> Origin:
    made = systemd("sshd.service").file("boot/grub2/grubenv", "saved_entry=openSUSE Leap 15.6\n")
    made.file(
        "boot/grub2/grub.cfg",
        'if [ "${next_entry}" ] ; then\n  set default="${next_entry}"\nelse\n  set default="${saved_entry}"\nfi\n'
        f"menuentry 'openSUSE Leap 15.6' --class os {{\n  linux /boot/vmlinuz-{KERNEL} root=UUID=1 ${{extra_cmdline}}\n"
        f"  initrd /boot/initrd-{KERNEL}\n}}\n"
        'if [ -f "/.snapshots/grub-snapshot.cfg" ]; then\n  source "/.snapshots/grub-snapshot.cfg"\nfi\n',
    )
    made.file(f"boot/vmlinuz-{KERNEL}", "k").file(f"boot/initrd-{KERNEL}", "i")
    return made.mount("/dev/sda2", "/", "btrfs").mount("/dev/sda2", "/.snapshots", "btrfs")


def _rocky() -> Origin:
    made = fedora().mount("/dev/sda3", "/", "xfs")
    return made.file(
        f"boot/loader/entries/0a1b-{KERNEL}.conf",
        f"title Rocky\nversion {KERNEL}\nlinux /vmlinuz-{KERNEL}\ninitrd /initramfs-{KERNEL}.img $tuned_initrd\n"
        "options $kernelopts $tuned_params\ngrub_users $grub_users\ngrub_arg --unrestricted\n",
    )


def _coreos() -> Origin:
    place = "boot/ostree/fedora-coreos-ab"
    made = systemd("sshd.service").without("etc/fstab").file("boot/grub2/grub.cfg", "blscfg\n")
    made.command_line(f"BOOT_IMAGE=(hd0,gpt3)/{place}/vmlinuz-{KERNEL} rw ostree=/ostree/boot.1/x root=UUID=1")
    made.file(f"{place}/vmlinuz-{KERNEL}", "k").file(f"{place}/initramfs-{KERNEL}.img", "i")
    made.link("boot/loader", "loader.1").file(
        "boot/loader.1/entries/ostree-1.conf",
        f"version 1\nlinux /{place}/vmlinuz-{KERNEL}\ninitrd /{place}/initramfs-{KERNEL}.img\n",
    )
    made.mounts = [
        "1 0 0:30 / / ro - overlay composefs ro,lowerdir=x",
        "2 1 8:4 / /sysroot ro,relatime - xfs /dev/sda4 rw",
        "3 1 8:4 /ostree/var /var rw - xfs /dev/sda4 rw",
        "4 1 8:3 / /boot ro - ext4 /dev/sda3 rw",
    ]
    return made


def _raspberry() -> Origin:
    made = systemd().command_line("console=tty1 root=PARTUUID=aa-02 rootfstype=ext4 fsck.repair=yes rootwait")
    for name in ("config.txt", "cmdline.txt", "kernel8.img", "initramfs8"):
        made.file(f"boot/firmware/{name}", "x")
    made.file("dev/disk/by-partuuid/aa-01").file("dev/disk/by-partuuid/aa-02").file(
        "etc/fstab", "PARTUUID=aa-01 /boot/firmware vfat defaults 0 2\nPARTUUID=aa-02 / ext4 defaults,noatime 0 1\n"
    )
    return made.mount("/dev/sda1", "/boot/firmware", "vfat").mount("/dev/sda2", "/")


def _buildroot() -> Origin:
    made = base("init").without("etc/fstab").command_line("root=/dev/sda1").file("etc/inittab", "::sysinit:rcS\n")
    made.file("etc/init.d/S50sshd", "#!/bin/sh\n").file("etc/init.d/S60tailscaled", "#!/bin/sh\n")
    return made.runs_tailscaled("/", parent="init").serves_login(cgroup="/")


def _slackware() -> Origin:
    made = base("init").file("etc/inittab", "id:3:initdefault:\n").file("etc/rc.d/rc.sshd", "#!/bin/sh\n")
    made.file("etc/rc.d/rc.local", "#!/bin/sh\n/usr/sbin/tailscaled &\n")
    return made.runs_tailscaled("/", parent="init").serves_login(cgroup="/")


def _diskless(*kept: str) -> Origin:
    """Make an Alpine that runs from RAM, and keeps on its stick what `lbu commit` puts there."""
    made = alpine().without("boot/extlinux.conf").file("etc/fstab", "/dev/sda1 /media/sda1 vfat ro 0 0\n")
    made.mounts = ["1 0 0:2 / / rw - tmpfs tmpfs rw", "2 1 8:1 / /media/sda1 ro - vfat /dev/sda1 ro"]
    return made.file("etc/apk/protected_paths.d/lbu.list", "".join(f"{line}\n" for line in kept))


def _zfs_beside(pool: str) -> Origin:
    """Make a Debian on ZFS, with an open LUKS that carries one of its pools."""
    made = debian().mount("rpool/ROOT/x", "/", "zfs").mount("tank", "/tank", "zfs").mount("/dev/sda1", "/boot")
    made.tool(
        "zpool",
        f"printf '%s\\t9G\\n' \"$6\"; if [ \"$6\" = {pool} ]; then printf '\\t/dev/dm-0\\t9G\\n';"
        " else printf '\\t/dev/sda2\\t9G\\n'; fi",
    )
    return made.crypt("dm-0", "opened", "sda3").file("etc/crypttab", "opened UUID=4 none luks,noauto\n")


def _keystore() -> Origin:
    made = debian().mount("rpool/ROOT/x", "/", "zfs").mount("/dev/sda1", "/boot").initrd("usr/sbin/zfs")
    made.crypt("dm-0", "keystore-rpool", "sda3").mount("/dev/mapper/keystore-rpool", "/run/keystore/rpool")
    key = "file:///run/keystore/rpool/system.key"
    told = f"case $* in *keylocation*) printf 'rpool\\t{key}\\n' ;; *encryptionroot*) echo rpool ;; esac"
    return made.file("run/keystore/rpool/system.key").tool("zfs", told)


def _srv(crypttab: str) -> Origin:
    made = debian().file("etc/crypttab", crypttab).file("etc/fstab", _SRV) if crypttab else debian()
    return made.crypt("dm-0", "srv", "sda3").mount("/dev/mapper/srv", "/srv")


def _by_upstart() -> Origin:
    made = base("init").file("etc/rc2.d/S01x").file("etc/init/ssh.conf").file("etc/init/tailscaled.conf")
    return made.runs_tailscaled("/", parent="init").serves_login(cgroup="/")


def _at_kernels(folder: str, named: str) -> Origin:
    return _nixos_grub(named).file(f"{folder}/k-linux/bzImage", "k").file(f"{folder}/i-initrd/initrd", "i")


def _by_user(below: str, *lingering: str) -> Origin:
    made = debian().unit("tailscaled.service", state="disabled").runs_tailscaled(f"{_OF_USER}/{below}", parent="bash")
    for user in lingering:
        made.file(f"var/lib/systemd/linger/{user}")
    return made


def _extlinux(prompt: str) -> Origin:
    return (
        alpine()
        .file("boot/ucode.img", "u")
        .file(
            "boot/extlinux.conf",
            f"DEFAULT lts\n{prompt}\nLABEL lts\n  LINUX ../vmlinuz-lts\n  INITRD ../ucode.img,../initramfs-lts\n",
        )
    )


OTHERS: Final = (
    # Other systems.
    fine("Rocky 9: BLS with kernelopts", _rocky),
    fine("openSUSE: snapper, GRUB_DEFAULT=saved", _opensuse),
    fine("Fedora CoreOS: ostree, a root that is read-only by design", _coreos),
    fine("Raspberry Pi OS", _raspberry),
    fine("Buildroot: busybox' init", _buildroot),
    fine("Slackware", _slackware),
    fine("upstart", _by_upstart),
    fine("NixOS: GRUB, kernels in a subvolume", lambda: _at_kernels("boot/kernels", "/@root/boot/kernels")),
    fine("NixOS: GRUB, the store in a subvolume", lambda: _at_kernels("nix/store", "/@/nix/store")),
    unproved(
        "an init system that is not known, with the name init",
        lambda: base("init").runs_tailscaled("/", parent="init").serves_login(cgroup="/"),
        "nothing is known of what init starts at boot",
        "nothing is known of what init starts at boot (sshd runs)",
    ),
    unproved(
        "Alpine from RAM, its lbu keeps the state", lambda: _diskless("+var/lib/tailscale"), "Alpine's lbu keeps it"
    ),
    strands("Alpine from RAM, its lbu does not keep the state", lambda: _diskless("+root"), "lies in RAM (tmpfs)"),
    # Encryption.
    strands("Arch: sd-encrypt with a passphrase", lambda: _arch("rw"), "opened by a passphrase"),
    fine(
        "Arch: sd-encrypt with a TPM",
        lambda: (
            _arch("rd.luks.options=tpm2-device=auto")
            .crypt("dm-0", "root", "sda3", tokens=("systemd-tpm2",))
            .file("sys/class/tpm/tpm0/x")
        ),
    ),
    unproved("LUKS, Mandos", lambda: encrypted_debian().initrd("usr/lib/mandos/plugins.d/mandos-client"), "Mandos"),
    fine("a LUKS that somebody opened after the boot", lambda: _srv("")),
    fine("a LUKS with noauto that somebody opened", lambda: _srv("srv UUID=4 none luks,noauto\n")),
    fine("a LUKS with a passphrase and nofail", lambda: _srv("srv UUID=4 none luks,nofail\n")),
    strands(
        "a LUKS with a passphrase that crypttab opens", lambda: _srv("srv UUID=4 none luks\n"), "srv (/etc/crypttab)"
    ),
    fine("a ZFS on a LUKS that is not the root's", lambda: _zfs_beside("tank")),
    strands("a ZFS root on a LUKS with a passphrase", lambda: _zfs_beside("rpool"), "/ (opened on sda3) is encrypted"),
    strands(
        "Ubuntu: a ZFS root, its key on a keystore",
        _keystore,
        "/run/keystore/rpool (keystore-rpool on sda3) is encrypted, and opened by a passphrase",
        "a key from file:///run/keystore/rpool/system.key",
    ),
    unproved(
        "NixOS, a LUKS that nothing mounted needs",
        lambda: nixos().crypt("dm-0", "data", "sda3"),
        "by somebody who was logged in, or by the initrd",
    ),
    # What starts tailscaled.
    fine(
        "tailscaled as a snap, refreshed since",
        lambda: (
            debian()
            .unit("tailscaled.service", state="", loaded="not-found")
            .unit("snap.tailscale.tailscaled.service")
            .runs_tailscaled("/system.slice/snap.tailscale.tailscaled.service")
            .changed("etc/systemd/system/snap-core22-1663.mount", "[Mount]\n")
        ),
    ),
    fine(
        "tailscaled by a timer",
        lambda: (
            debian().unit("tailscaled.service", state="static", TriggeredBy="tailscaled.timer").unit("tailscaled.timer")
        ),
    ),
    unproved(
        "tailscaled by a user's systemd, which lingers",
        lambda: _by_user("app.slice/tailscaled.service", "alice"),
        "which lingers (alice)",
    ),
    strands(
        "tailscaled by a user's systemd",
        lambda: _by_user("app.slice/tailscaled.service"),
        "only while somebody is logged in",
    ),
    strands(
        "tailscaled started in tmux, of a user who lingers",
        lambda: _by_user("tmux-spawn-1a.scope", "alice"),
        "tailscaled was started by hand",
    ),
    fine(
        "sshd by xinetd",
        lambda: (
            debian()
            .unit("ssh.service", state="disabled")
            .unit("xinetd.service")
            .serves_login(cgroup="/system.slice/xinetd.service")
        ),
    ),
    # Boot loaders.
    fine(
        "GRUB, quoted names of ZFS datasets",
        lambda: _grub(
            f'set default="0"\nmenuentry \'Ubuntu\' {{\n\tlinux "/BOOT/u@/vmlinuz-{KERNEL}" root=ZFS="rpool/ROOT/u"\n'
            f'\tinitrd "/BOOT/u@/initrd.img-{KERNEL}"\n}}\n'
        ),
    ),
    strands(
        "GRUB, the second of two initrds missing",
        lambda: _grub(
            f"set default=0\nmenuentry 'Arch' {{\n\tlinux /boot/vmlinuz-{KERNEL}\n"
            f"\tinitrd /boot/initrd.img-{KERNEL} /boot/gone.img\n}}\n"
        ),
        "needs /boot/gone.img, which is missing or empty",
    ),
    strands("GRUB, a password for the default", _password, "GRUB asks for a password"),
    fine("GRUB, a password for all but the default", lambda: _password("--unrestricted")),
    strands("GRUB, no timeout", lambda: _timeout(-1, -1), "GRUB waits at its menu without end"),
    fine("GRUB, no timeout after a failed boot", lambda: _timeout(-1, 5)),
    unproved(
        "a configuration of GRUB that is not used any more",
        lambda: debian().without(f"boot/vmlinuz-{KERNEL}").command_line("root=UUID=1 ro"),
        f"needs /boot/vmlinuz-{KERNEL}, which is missing or empty",
    ),
    strands(
        "systemd-boot, its menu without a timeout",
        lambda: nixos().file("boot/loader/loader.conf", "timeout menu-force\ndefault nixos-generation-7.conf\n"),
        "systemd-boot waits at its menu",
    ),
    strands("extlinux, a prompt without a timeout", lambda: _extlinux("PROMPT 1"), "extlinux waits at its prompt"),
    fine("extlinux, a prompt with a timeout; two initrds", lambda: _extlinux("PROMPT 1\nTIMEOUT 50")),
    # What has changed.
    fine("Fedora, the initrd of kdump made again", lambda: fedora().changed(f"boot/initramfs-{KERNEL}kdump.img")),
)


ALL: Final = (*TABLE, *OTHERS)
