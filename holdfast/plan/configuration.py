"""What holdfast/nixcli/describe.nix answers about a NixOS configuration."""

import json
import re
from typing import Annotated

from pydantic import Field, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.facts.ssh import AuthorizedKey, parse_authorized_keys
from holdfast.plan.answers import (
    MANY,
    Dataset,
    Elevation,
    FilePath,
    FileSystem,
    Firewall,
    HostKeyFile,
    Initrd,
    Keys,
    Lines,
    Listen,
    Paths,
    Port,
    Starter,
    Text,
    Texts,
    User,
)


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
        signing_keys: files or folders with keys that it signs with as it is installed, and does not make by itself.
        file_systems: the file systems, by mount point.
        persisted: places of files and folders that impermanence or preservation keep, by path.
        secret_paths: files that sops-nix or agenix write at each start.
        secret_keys: the files that open the secrets, for each of the two: one of them has to be there.
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

    system: Text
    host_name: Text
    tailscale: bool
    tailscale_interface: Text
    tailscale_set_flags: Paths
    tailscale_up_flags: Paths
    tailscale_daemon_flags: Paths
    sshd: bool
    ssh_ports: Annotated[tuple[Port, ...], Field(max_length=100)]
    ssh_listen: Annotated[tuple[Listen, ...], Field(max_length=1000)]
    root_login: Text
    ssh_settings: Annotated[dict[Text, Paths], Field(max_length=100)]
    ssh_extra: Lines
    host_keys: Annotated[tuple[HostKeyFile, ...], Field(max_length=100)]
    key_files: Paths
    keys_command: bool
    keys: Annotated[dict[Text, Annotated[tuple[Keys, ...], Field(max_length=MANY)]], Field(max_length=MANY)]
    users: Annotated[dict[Text, User], Field(max_length=MANY)]
    elevation: Elevation
    firewall: Firewall
    boot_loaders: Annotated[tuple[Text, ...], Field(max_length=100)]
    grub: Starter
    grub_opens_disks: bool
    menu_waits: bool
    limine: Starter
    refind_removable: bool
    efi_variables: bool
    efi_mounts: Paths
    signing_keys: Paths
    file_systems: Annotated[dict[FilePath, FileSystem], Field(max_length=MANY)]
    persisted: Annotated[dict[FilePath, FilePath], Field(max_length=MANY)]
    secret_paths: Paths
    secret_keys: Annotated[tuple[Paths, ...], Field(max_length=100)]
    volatile: Texts
    initrd: Initrd
    crypttab: Lines
    enrols: bool
    zfs: bool
    zfs_credentials: bool | Paths
    zfs_datasets: Annotated[tuple[Dataset, ...], Field(max_length=MANY)]
    encrypted_bcachefs: Texts
    host_id: bool
    disko_script: bool

    def authorized_keys(self, user: str) -> tuple[AuthorizedKey, ...]:
        """Return the authorized keys of a user."""
        return tuple(parse_authorized_keys("\n".join(self.keys.get(user, ())).splitlines()))

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
