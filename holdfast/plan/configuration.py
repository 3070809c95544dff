"""Whether a machine with the user's configuration can be reached again, and why not."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

from pydantic import Field, ValidationError

from holdfast.base.errors import ConfigError
from holdfast.base.frozen import Frozen
from holdfast.inventory.host import Allowance, Host, Way
from holdfast.plan.fitness import arch_family
from holdfast.plan.plan import Login, Plan

_Text = Annotated[str, Field(max_length=256)]
# An RSA key of 16384 bits has about 2,800 characters; a file of keys may be longer.
_Keys = Annotated[str, Field(max_length=65536)]
_Port = Annotated[int, Field(ge=0, le=65535)]

# sshd(8), AUTHORIZED_KEYS FILE FORMAT: options may come before type and key, a comment after them.
_KEY: Final = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]{16,}={0,2})(?=\s|$)")
# sshd_config(5), PermitRootLogin: with these values, root gets no shell with a key.
_ROOT_KEPT_OUT: Final = ("no", "forced-commands-only")
# With this services.tailscale.interfaceName there is no interface: connections come from tailscaled itself.
_NO_INTERFACE: Final = "userspace-networking"


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
        interfaces: what is open on single interfaces, in addition to what is open on all.

    """

    enable: bool
    trusted: Annotated[tuple[_Text, ...], Field(max_length=1000)] = ()
    interfaces: Annotated[dict[_Text, OpenPorts], Field(max_length=1000)] = Field(default_factory=dict)

    def opens(self, port: int, interface: str) -> bool:
        """Return whether a port can be reached through an interface."""
        single = self.interfaces.get(interface, OpenPorts())
        return not self.enable or interface in self.trusted or self.lets_in(port) or single.lets_in(port)

    def opens_beside(self, port: int, interface: str) -> bool:
        """Return whether a port can be reached through any interface except this one and `lo`."""
        others = {"", *self.trusted, *self.interfaces} - {"lo", interface}
        return any(self.opens(port, other) for other in others)


class Configuration(Frozen):
    """What holdfast/nixcli/describe.nix answers about a NixOS configuration; it names the options.

    Attributes:
        system: its platform as Nix names it, such as `x86_64-linux`; empty if it does not say.
        tailscale: whether tailscaled starts.
        tailscale_interface: its interface, or `userspace-networking`.
        tailscale_ssh: whether Tailscale's own SSH server is on, which needs no key.
        sshd: whether sshd starts.
        ssh_ports: the ports that it listens on.
        root_login: its PermitRootLogin.
        keys_command: whether sshd asks a program for keys, which are then not known here.
        keys: lines of authorized keys, by user.
        firewall: see there.
        boot_loaders: names of the enabled boot loaders.
        grub_nowhere: whether GRUB is enabled but installed neither to a disk nor for UEFI.
        zfs: whether it uses ZFS.
        host_id: whether networking.hostId is set.
        disko_script: whether it has system.build.diskoScript.

    """

    system: _Text
    tailscale: bool
    tailscale_interface: _Text
    tailscale_ssh: bool
    sshd: bool
    ssh_ports: Annotated[tuple[_Port, ...], Field(max_length=100)]
    root_login: _Text
    keys_command: bool
    keys: Annotated[dict[_Text, Annotated[tuple[_Keys, ...], Field(max_length=10_000)]], Field(max_length=10_000)]
    firewall: Firewall
    boot_loaders: Annotated[tuple[_Text, ...], Field(max_length=100)]
    grub_nowhere: bool
    zfs: bool
    host_id: bool
    disko_script: bool

    def public_keys(self, user: str) -> set[str]:
        """Return the authorized keys of a user, each as `TYPE BASE64`."""
        lines = "\n".join(self.keys.get(user, ())).splitlines()
        return {found[1] for line in lines if not line.lstrip().startswith("#") and (found := _KEY.search(line))}


class Refusal(NamedTuple):
    """A reason to refuse a configuration.

    Attributes:
        allowance: the word for `allow` in the inventory that overrides it; None if nothing does.
        message: one line.
        hint: what the user can do.

    """

    allowance: Allowance | None
    message: str
    hint: str


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


def check_configuration(seen: Configuration, host: Host, plan: Plan) -> tuple[str, ...]:
    """Refuse a configuration with which the machine could not be reached again.

    Returns:
        The refusals that the inventory overrides, one line each.

    Raises:
        ConfigError: the first reason, with a hint and, if there is one, the word for `allow`.

    """
    allowed = []
    for allowance, message, hint in _refusals(seen, host, plan):
        if allowance is None:
            raise ConfigError(message, hint=hint)
        if allowance not in host.allow:
            known = f'If you know better, add "{allowance}" to allow in the inventory.'
            raise ConfigError(message, hint=f"{hint} {known}")
        allowed.append(f"{message} The inventory allows it ({allowance}).")
    return tuple(allowed)


def _refusals(seen: Configuration, host: Host, plan: Plan) -> Iterator[Refusal]:
    name = f"the configuration {plan.attribute}"
    if not seen.disko_script:
        yield Refusal(
            None,
            f"{name} has no system.build.diskoScript.",
            "Import disko's module (disko.nixosModules.disko) and describe the disks in disko.devices.",
        )
    system = seen.system.rpartition("-")[0]
    if system and arch_family(system) != arch_family(plan.origin.arch):
        yield Refusal(
            None,
            f"{name} is for {seen.system}, and {host.name} is {plan.origin.arch}.",
            f'Set nixpkgs.hostPlatform = "{arch_family(plan.origin.arch)}-linux" there.',
        )
    if plan.carries_state and not seen.tailscale:
        yield Refusal(
            "no-tailscale",
            f"{name} does not start Tailscale: {host.name} would not come back on its tailnet.",
            "Set services.tailscale.enable = true there, or keep.tailscale_state = false in the inventory.",
        )
    yield from _ssh(seen, host, plan, name)
    yield from _boot(seen, host, name)


def _ssh(seen: Configuration, host: Host, plan: Plan, name: str) -> Iterator[Refusal]:
    """Follow a login into the final system: sshd, its port, root, the firewall, the key. Only the first gap counts."""
    if not seen.sshd:
        yield Refusal(
            "no-sshd",
            f"{name} starts no sshd: nobody could log in to {host.name}.",
            "Set services.openssh.enable = true there.",
        )
        return
    # Like holdfast/ssh/reach.py: as the inventory says, else as root on port 22.
    logins = [(host.user, host.port), (plan.origin.login.user, plan.origin.login.port), ("root", 22)]
    heard = [(user, port) for user, port in logins if port in seen.ssh_ports]
    if not heard:
        yield Refusal(
            "no-sshd",
            f"sshd of {name} listens on {', '.join(map(str, seen.ssh_ports)) or 'no port'}, and Holdfast logs in to the"
            f" final system on port {' or '.join(dict.fromkeys(str(port) for _, port in logins))}.",
            "Set services.openssh.ports = [ 22 ] there.",
        )
        return
    served = [(user, port) for user, port in heard if user != "root" or seen.root_login not in _ROOT_KEPT_OUT]
    if not served:
        yield Refusal(
            "no-sshd",
            f"sshd of {name} keeps root out (PermitRootLogin {seen.root_login}), and Holdfast logs in as root.",
            'Set services.openssh.settings.PermitRootLogin = "prohibit-password" there, or name another user and'
            " elevation in the inventory.",
        )
        return
    if not any(_lets_in(seen, host.way, port) for _, port in served):
        where = f"the interface {seen.tailscale_interface}" if host.way is Way.TAILSCALE else host.target
        yield Refusal(
            "no-sshd",
            f"the firewall of {name} closes SSH on {where}.",
            "Set services.openssh.openFirewall = true there, or open the port in networking.firewall.",
        )
        return
    yield from _key(seen, host, plan.origin.login, name, dict.fromkeys(user for user, _ in served))


def _lets_in(seen: Configuration, way: Way, port: int) -> bool:
    interface = seen.tailscale_interface
    if way is Way.STANDARD:
        return seen.firewall.opens_beside(port, interface)
    return interface == _NO_INTERFACE or seen.firewall.opens(port, interface)


def _key(seen: Configuration, host: Host, login: Login, name: str, users: dict[str, None]) -> Iterator[Refusal]:
    if seen.keys_command or (seen.tailscale_ssh and host.way is Way.TAILSCALE):
        return
    known = {key for user in users for key in seen.public_keys(user)}
    place = f"users.users.{next(iter(users))}.openssh.authorizedKeys.keys"
    if not known:
        yield Refusal(
            "no-authorized-key",
            f"{name} has no SSH key for {' or '.join(users)}: nobody could log in to {host.name}.",
            f"Add yours to {place} there.",
        )
    elif login.key and login.key not in known:
        yield Refusal(
            "no-authorized-key",
            f"{name} does not know the SSH key that logs in to {host.name} now: {login.key[:40]}…{login.key[-12:]}.",
            f"Add it to {place} there.",
        )


def _boot(seen: Configuration, host: Host, name: str) -> Iterator[Refusal]:
    if not seen.boot_loaders:
        yield Refusal(
            "no-boot-loader",
            f"{name} has no boot loader: {host.name} would not boot.",
            "Set boot.loader.systemd-boot.enable = true there (UEFI), or boot.loader.grub.",
        )
    elif seen.grub_nowhere and seen.boot_loaders == ("grub",):
        yield Refusal(
            "no-boot-loader",
            f"GRUB of {name} is installed nowhere (nodev, without efiSupport): {host.name} would not boot.",
            "Name the disk in boot.loader.grub.devices there, or set boot.loader.grub.efiSupport = true (UEFI).",
        )
    if seen.zfs and not seen.host_id:
        yield Refusal(
            "no-host-id",
            f"{name} uses ZFS without networking.hostId: its pools would not be imported at boot.",
            "Set networking.hostId there to eight hexadecimal digits of your own.",
        )
