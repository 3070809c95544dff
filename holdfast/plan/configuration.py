"""What holdfast/nixcli/describe.nix answers about a NixOS configuration; the file names the options."""

import json
import re
from typing import Annotated, Final

from pydantic import Field, ValidationError

from holdfast.base.frozen import Frozen

MANY: Final = 10_000
_Text = Annotated[str, Field(max_length=256)]
_Path = Annotated[str, Field(max_length=4096)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=1000)]
_Paths = Annotated[tuple[_Path, ...], Field(max_length=MANY)]
_Lines = Annotated[tuple[Annotated[str, Field(max_length=65536)], ...], Field(max_length=MANY)]
# An RSA key of 16384 bits has about 2,800 characters; a file of keys may be longer.
_Keys = Annotated[str, Field(max_length=65536)]
_Port = Annotated[int, Field(ge=0, le=65535)]

# sshd(8), AUTHORIZED_KEYS FILE FORMAT: options may come before type and key, a comment after them.
_KEY: Final = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]{16,}={0,2})(?=\s|$)")


class PortRange(Frozen):
    """A range of TCP ports, including both ends."""

    from_: Annotated[_Port, Field(alias="from")]
    to: _Port


class OpenPorts(Frozen):
    """What a firewall lets in: single TCP ports, and ranges."""

    ports: Annotated[tuple[_Port, ...], Field(max_length=65536)] = ()
    ranges: Annotated[tuple[PortRange, ...], Field(max_length=1000)] = ()

    def lets_in(self, port: int) -> bool:
        """Return whether a port is open."""
        return port in self.ports or any(open_.from_ <= port <= open_.to for open_ in self.ranges)


class Firewall(OpenPorts):
    """The configuration's firewall.

    Attributes:
        enable: whether there is one.
        trusted: interfaces that let everything in.
        rules: lines of the user's own rules.
        interfaces: what is open on single interfaces, in addition to what is open on all.

    """

    enable: bool
    trusted: _Texts = ()
    rules: _Lines = ()
    interfaces: Annotated[dict[_Text, OpenPorts], Field(max_length=1000)] = Field(default_factory=dict)

    def opens(self, port: int, interface: str) -> bool:
        """Return whether a port can be reached through an interface."""
        single = self.interfaces.get(interface, OpenPorts())
        opened = self.lets_in(port) or single.lets_in(port) or self._rules_open(port, interface)
        return not self.enable or interface in self.trusted or opened

    def _rules_open(self, port: int, interface: str) -> bool:
        """Return whether a rule of the user's own accepts the port, or the interface, as far as a line shows."""
        accepts = [line for line in self.rules if "accept" in line.lower() and not line.lstrip().startswith("#")]
        named = re.compile(rf"dport\b.*\b{port}\b" + (rf"|\b{re.escape(interface)}\b" if interface else ""))
        return any(named.search(line) for line in accepts)

    def opens_beside(self, port: int, interface: str) -> bool:
        """Return whether a port can be reached through any interface except this one and `lo`."""
        others = {"", *self.trusted, *self.interfaces} - {"lo", interface}
        return any(self.opens(port, other) for other in others)


class Listen(Frozen):
    """An address that sshd listens on; without a port, on all of its ports."""

    address: _Text | None
    port: _Port | None


class HostKeyFile(Frozen):
    """A host key of sshd: its type as ssh-keygen names it (`ed25519`), and the file of the secret half."""

    type: _Text
    path: _Path


class User(Frozen):
    """A user: the groups, and whether a login gets a shell."""

    groups: _Texts
    shell: bool


class SudoCommand(Frozen):
    """A command in a rule of sudo, `ALL` for any, with options such as `NOPASSWD`."""

    command: _Path
    options: _Texts


class SudoRule(Frozen):
    """A rule of security.sudo.extraRules; the last one that fits a user counts."""

    users: _Texts
    groups: _Texts
    run_as: _Text
    commands: Annotated[tuple[SudoCommand, ...], Field(max_length=1000)]


class DoasRule(Frozen):
    """A rule of security.doas.extraRules; `everything` permits any command as root."""

    users: _Texts
    groups: _Texts
    no_password: bool
    everything: bool


class Elevation(Frozen):
    """How a user becomes root: whether sudo and doas are there, and their rules in order."""

    sudo: bool
    sudo_wheel_only: bool
    sudo_rules: Annotated[tuple[SudoRule, ...], Field(max_length=1000)]
    sudo_extra: _Lines
    doas: bool
    doas_rules: Annotated[tuple[DoasRule, ...], Field(max_length=1000)]
    doas_extra: _Lines


class Starter(Frozen):
    """What a boot loader that knows both starts by.

    Attributes:
        efi: whether it is installed for UEFI.
        bios: whether it is installed to a disk, for BIOS.
        removable: whether it is also put where every UEFI looks, as on a removable disk.
        only_32_bit: whether its UEFI program is a 32-bit one.

    """

    efi: bool
    bios: bool
    removable: bool
    only_32_bit: bool = False


class FileSystem(Frozen):
    """A file system.

    Attributes:
        type: its type; `auto` or `none` for most bind mounts.
        device: its device; of a bind mount, the other folder.
        options: its mount options.
        needed: whether neededForBoot is set: the initrd mounts it.

    """

    type: _Text
    device: _Path | None
    options: Annotated[tuple[_Path, ...], Field(max_length=1000)]
    needed: bool


class Luks(Frozen):
    """An encrypted device that the initrd opens.

    Attributes:
        key_file: file with its key; None asks for a passphrase.
        options: crypttabExtraOpts, which only systemd in the initrd knows.
        empty_passphrase: whether an empty passphrase is tried first.
        two_factor: whether its Yubikey needs a passphrase, too; None without a Yubikey.
        fido2: whether a FIDO2 token opens it without a passphrase.
        commands: whether commands of its own run before it is opened.

    """

    key_file: _Path | None
    options: _Texts
    empty_passphrase: bool
    two_factor: bool | None
    fido2: bool
    commands: bool


class Initrd(Frozen):
    """What happens before the root file system is there.

    Attributes:
        lines: of its scripts, those that empty a file system, load a key of ZFS, or name a key file.
        systemd: whether systemd runs there.
        ssh: whether a person can log in there, to type a passphrase.
        files: paths of its own files.
        wants: files that have to be on the machine when the boot loader is installed.
        clevis: devices and datasets that Clevis opens.
        luks: encrypted devices, by name.

    """

    lines: _Lines
    systemd: bool
    ssh: bool
    files: _Paths
    wants: _Paths
    clevis: _Paths
    luks: Annotated[dict[_Text, Luks], Field(max_length=1000)]


class Dataset(Frozen):
    """A ZFS dataset of disko's configuration that says whether it is encrypted.

    Attributes:
        dataset: its name.
        encryption: the property; `off` for one that is not.
        key_format: the property `keyformat`.
        key_location: the property `keylocation`, as it is created.
        hooks: lines of hooks that may set it to something else afterwards.

    """

    dataset: _Text
    encryption: _Text
    key_format: _Text | None
    key_location: _Path | None
    hooks: _Lines


class Configuration(Frozen):
    """All the answers.

    Attributes:
        system: its platform as Nix names it, such as `x86_64-linux`; empty if it does not say.
        host_name: networking.hostName; empty if the network gives it.
        tailscale: whether tailscaled starts.
        tailscale_interface: its interface, or `userspace-networking`.
        tailscale_set_flags: flags of `tailscale set`, at each start.
        tailscale_up_flags: `--ssh` and `--shields-up` of `tailscale up`, if it can run: only without a login.
        tailscale_daemon_flags: more flags of tailscaled.
        sshd: whether sshd starts.
        ssh_ports: the ports that it listens on.
        ssh_listen: the addresses that it listens on; empty for all.
        root_login: its PermitRootLogin.
        ssh_settings: words of other settings, by name.
        ssh_extra: lines of its extraConfig, with those that NixOS writes there.
        host_keys: its host keys.
        key_files: where it looks for authorized keys; empty if the configuration does not say.
        keys_command: whether sshd asks a program for keys, which are then not known here.
        keys: lines of authorized keys, by user.
        users: the users, by name.
        elevation: see there.
        firewall: see there.
        boot_loaders: names of the enabled boot loaders.
        grub: how GRUB starts.
        grub_opens_disks: whether GRUB itself opens encrypted disks, and asks for a passphrase.
        menu_waits: whether the boot loader's menu waits for a key.
        limine: how Limine starts.
        refind_removable: whether rEFInd is put where every UEFI looks.
        efi_variables: whether a boot loader may write its entry into the firmware.
        efi_mounts: where the boot loader looks for UEFI's file system.
        file_systems: the file systems, by mount point.
        persisted: places of files and folders that impermanence or preservation keep, by path.
        secret_paths: files that sops-nix or agenix write at each start.
        volatile: values of systemd.volatile on the kernel's command line.
        initrd: see there.
        crypttab: lines of /etc/crypttab.
        enrols: whether a hook of disko enrols a TPM or a token, or binds Clevis.
        zfs: whether it uses ZFS.
        zfs_credentials: whether keys of ZFS are loaded: of all datasets, of none, or of those named.
        zfs_datasets: datasets of disko's configuration that say whether they are encrypted.
        encrypted_bcachefs: names of bcachefs file systems that disko encrypts.
        host_id: whether networking.hostId is set.
        disko_script: whether it has system.build.diskoScript.

    """

    system: _Text
    host_name: _Text
    tailscale: bool
    tailscale_interface: _Text
    tailscale_set_flags: _Paths
    tailscale_up_flags: _Paths
    tailscale_daemon_flags: _Paths
    sshd: bool
    ssh_ports: Annotated[tuple[_Port, ...], Field(max_length=100)]
    ssh_listen: Annotated[tuple[Listen, ...], Field(max_length=1000)]
    root_login: _Text
    ssh_settings: Annotated[dict[_Text, _Paths], Field(max_length=100)]
    ssh_extra: _Lines
    host_keys: Annotated[tuple[HostKeyFile, ...], Field(max_length=100)]
    key_files: _Paths
    keys_command: bool
    keys: Annotated[dict[_Text, Annotated[tuple[_Keys, ...], Field(max_length=MANY)]], Field(max_length=MANY)]
    users: Annotated[dict[_Text, User], Field(max_length=MANY)]
    elevation: Elevation
    firewall: Firewall
    boot_loaders: Annotated[tuple[_Text, ...], Field(max_length=100)]
    grub: Starter
    grub_opens_disks: bool
    menu_waits: bool
    limine: Starter
    refind_removable: bool
    efi_variables: bool
    efi_mounts: _Paths
    file_systems: Annotated[dict[_Path, FileSystem], Field(max_length=MANY)]
    persisted: Annotated[dict[_Path, _Path], Field(max_length=MANY)]
    secret_paths: _Paths
    volatile: _Texts
    initrd: Initrd
    crypttab: _Lines
    enrols: bool
    zfs: bool
    zfs_credentials: bool | _Paths
    zfs_datasets: Annotated[tuple[Dataset, ...], Field(max_length=MANY)]
    encrypted_bcachefs: _Texts
    host_id: bool
    disko_script: bool

    def public_keys(self, user: str) -> dict[str, str]:
        """Return the authorized keys of a user, each as `TYPE BASE64`, with its options (sshd(8))."""
        lines = [line for line in "\n".join(self.keys.get(user, ())).splitlines() if not line.lstrip().startswith("#")]
        return {found[1]: line[: found.start(1)].strip() for line in lines if (found := _KEY.search(line))}

    def ssh_setting(self, name: str) -> tuple[str, ...]:
        """Return the words of a setting of sshd, from the settings and from extraConfig before any Match.

        Of most settings the first value counts; lists of users and groups add up (sshd_config(5)).
        """
        found = list(self.ssh_settings.get(name, ()))
        for line in self.ssh_extra:
            key, *words = re.split(r"[\s=]+", line.split("#")[0].strip()) if line.strip() else [""]
            if key.lower() == "match":
                break
            if key.lower() == name.lower() and (name.startswith(("Allow", "Deny")) or not found):
                found += [word.strip('"') for word in words if word]
        return tuple(found)


def parse_configuration(output: str) -> Configuration:
    """Parse what describe.nix answered.

    Raises:
        ValueError: it is something else; the message is one line.

    """
    try:
        return Configuration.model_validate(json.loads(output))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
