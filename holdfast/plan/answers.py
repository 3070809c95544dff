"""The parts of what holdfast/nixcli/describe.nix answers about a NixOS configuration; the file names the options."""

import re
from typing import Annotated, Final

from pydantic import Field

from holdfast.base.frozen import Frozen

MANY: Final = 10_000
Text = Annotated[str, Field(max_length=256)]
FilePath = Annotated[str, Field(max_length=4096)]
Texts = Annotated[tuple[Text, ...], Field(max_length=1000)]
Paths = Annotated[tuple[FilePath, ...], Field(max_length=MANY)]
Lines = Annotated[tuple[Annotated[str, Field(max_length=65536)], ...], Field(max_length=MANY)]
# An RSA key of 16384 bits has about 2,800 characters; a file of keys may be longer.
Keys = Annotated[str, Field(max_length=65536)]
Port = Annotated[int, Field(ge=0, le=65535)]


class PortRange(Frozen):
    """A range of TCP ports, including both ends."""

    from_: Annotated[Port, Field(alias="from")]
    to: Port


class OpenPorts(Frozen):
    """What a firewall lets in: single TCP ports, and ranges."""

    ports: Annotated[tuple[Port, ...], Field(max_length=65536)] = ()
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
    trusted: Texts = ()
    rules: Lines = ()
    interfaces: Annotated[dict[Text, OpenPorts], Field(max_length=1000)] = Field(default_factory=dict)

    def opens(self, port: int, interface: str) -> bool:
        """Return whether a port can be reached through an interface."""
        single = self.interfaces.get(interface, OpenPorts())
        opened = self.lets_in(port) or single.lets_in(port) or self._rules_open(port, interface)
        # iptables(8) and nft(8): a name that ends so stands for all that begin with the rest.
        trusted = any(
            interface == name or (name[-1:] in ("+", "*") and interface.startswith(name[:-1])) for name in self.trusted
        )
        return not self.enable or trusted or opened

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

    address: Text | None
    port: Port | None


class HostKeyFile(Frozen):
    """A host key of sshd: its type as ssh-keygen names it (`ed25519`), and the file of the secret half."""

    type: Text
    path: FilePath


class User(Frozen):
    """A user: the groups, and whether a login gets a shell."""

    groups: Texts
    shell: bool


class SudoCommand(Frozen):
    """A command in a rule of sudo, `ALL` for any, with options such as `NOPASSWD`."""

    command: FilePath
    options: Texts


class SudoRule(Frozen):
    """A rule of security.sudo.extraRules; the last one that fits a user counts."""

    users: Texts
    groups: Texts
    run_as: Text
    commands: Annotated[tuple[SudoCommand, ...], Field(max_length=1000)]


class DoasRule(Frozen):
    """A rule of security.doas.extraRules; `everything` permits any command as root."""

    users: Texts
    groups: Texts
    no_password: bool
    everything: bool


class Elevation(Frozen):
    """How a user becomes root: whether sudo and doas are there, and their rules in order."""

    sudo: bool
    sudo_wheel_only: bool
    sudo_rules: Annotated[tuple[SudoRule, ...], Field(max_length=1000)]
    sudo_extra: Lines
    doas: bool
    doas_rules: Annotated[tuple[DoasRule, ...], Field(max_length=1000)]
    doas_extra: Lines


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

    type: Text
    device: FilePath | None
    options: Annotated[tuple[FilePath, ...], Field(max_length=1000)]
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

    key_file: FilePath | None
    options: Texts
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

    lines: Lines
    systemd: bool
    ssh: bool
    files: Paths
    wants: Paths
    clevis: Paths
    luks: Annotated[dict[Text, Luks], Field(max_length=1000)]


class Dataset(Frozen):
    """A ZFS dataset of disko's configuration that says whether it is encrypted.

    Attributes:
        dataset: its name.
        encryption: the property; `off` for one that is not.
        key_format: the property `keyformat`.
        key_location: the property `keylocation`, as it is created.
        hooks: lines of hooks that may set it to something else afterwards.

    """

    dataset: Text
    encryption: Text
    key_format: Text | None
    key_location: FilePath | None
    hooks: Lines
