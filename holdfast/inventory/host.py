"""A host of the inventory: how to reach it, what to install on it, and how long that may take."""

import ipaddress
import posixpath
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from holdfast.base.deadline import Allowed
from holdfast.base.frozen import Frozen
from holdfast.base.settings import PROJECT
from holdfast.facts.identity import is_of_tailnet
from holdfast.inventory.hardware import HardwareReport
from holdfast.inventory.kexec_flags import KexecFlags
from holdfast.inventory.nix_options import NixOptions
from holdfast.inventory.reference import (
    Download,
    InventoryPath,
    is_path,
    parse_download,
    resolve_image,
    resolve_reference,
)
from holdfast.inventory.schedule import Schedule
from holdfast.inventory.secret import (
    MAX_INSTALLER_SECRETS,
    Argument,
    EncryptionKey,
    ExtraFile,
    InstallerSecret,
    distinct,
)

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DAY_S: Final = 86400.0


class Way(StrEnum):
    """How the target goes through kexec: on its tailnet, or without it (the standard way)."""

    TAILSCALE = "tailscale"
    STANDARD = "standard"


class Approve(StrEnum):
    """Whether a person must resume the run before the target is changed.

    `unpinned`: only if the inventory does not pin every disk that will be wiped (holdfast/plan/approval.py).
    """

    ALWAYS = "always"
    UNPINNED = "unpinned"
    NEVER = "never"


class BuildOn(StrEnum):
    """Where the system is built: here, on the target, or here if this machine can build for the target."""

    LOCAL = "local"
    REMOTE = "remote"
    AUTO = "auto"


def _image_reference(reference: str) -> str:
    parse_download(reference)
    return reference


Allowance = Literal[
    "no-tailscale",
    "no-sshd",
    "no-authorized-key",
    "no-root",
    "no-boot-loader",
    "wrong-boot-loader",
    "no-host-id",
    "asks-passphrase",
    "loses-state",
    "other-host-key",
    "breaks-group",
    "failing-disk",
    "origin-may-not-return",
    "no-way-out",
    "state-on-boot",
    "foreign-installer",
]
"""A refusal that the user may override; see holdfast/plan/refusals/, disks.py, groups.py, way_back/ and
way_out/.

`state-on-boot`: the standby of an encrypted root keeps the node's state on the boot partition.
"""


def _allowed(seconds: float, info: ValidationInfo) -> float:
    return Allowed(seconds, info.field_name or "")


Seconds = Annotated[float, Field(gt=0, le=7 * DAY_S), AfterValidator(_allowed)]


class Deadlines(Frozen):
    """How long the parts of an install may take, in seconds.

    Attributes:
        connect_s: to open a connection.
        look_s: to look at a machine: what it is, what runs there, how it boots.
        answer_s: for an unreachable target to answer when a phase begins.
        upload_s: to upload the kexec image, or the extra files.
        build_s: to build the image, or the system, wherever that is built.
        kexec_return_s: from kexec until the installer answers.
        partition_s: for the disko script.
        copy_s: to copy the closure.
        install_s: for nixos-install.
        reboot_return_s: from the reboot until the final system answers.
        post_install_s: for the command of post_install.
        dead_man_s: until the installer reboots into the origin if nobody comes; at least a minute.
        approval_s: for a person to approve the plan.

    """

    model_config = ConfigDict(validate_default=True)

    connect_s: Seconds = 30
    look_s: Seconds = 300
    answer_s: Seconds = 600
    upload_s: Seconds = 3600
    build_s: Seconds = 4 * 3600
    kexec_return_s: Seconds = 600
    partition_s: Seconds = 1800
    copy_s: Seconds = 4 * 3600
    install_s: Seconds = 3600
    reboot_return_s: Seconds = 600
    post_install_s: Seconds = 600
    dead_man_s: Annotated[float, Field(ge=60, le=7 * DAY_S)] = 900
    approval_s: Seconds = DAY_S


class Keep(Frozen):
    """What is carried from the old system into the new one, in addition to the SSH host keys.

    Attributes:
        tailscale_state: the Tailscale state, so that it stays the same node.
        machine_id: /etc/machine-id.

    """

    tailscale_state: StrictBool = True
    machine_id: StrictBool = False


class DiskPin(Frozen):
    """A disk that the install may wipe, named by what its maker wrote into it.

    Attributes:
        serial: its serial number.
        by_id: the name of one of its links in /dev/disk/by-id.
        size_bytes: its exact size; any, if it is not given.

    """

    serial: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    by_id: Annotated[str, Field(pattern=r"^[^/\x00-\x20]{1,255}$")] | None = None
    size_bytes: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _named(self) -> "DiskPin":
        if self.serial is None and self.by_id is None:
            raise ValueError("a disk needs serial or by_id")
        return self


# As in holdfast/ssh/endpoint.py: safe in a proxy's command line, where a leading dash would be an option.
_Address = Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9_.:%-]*|::[A-Za-z0-9:.%]*)$", max_length=255)]


def parse_local(text: str) -> tuple[str, int]:
    """Read the inventory's `local`: `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`; without a port, 22.

    Raises:
        ValueError: it has another form, or is an address of the tailnet.

    """
    bare = re.fullmatch(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?", text)
    match = re.fullmatch(r"(?:\[([^][]+:[^][]*)\]|([A-Za-z0-9_][A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?", text, re.ASCII)
    if not bare and not match:
        raise ValueError("it is not ADDRESS, ADDRESS:PORT or [IPV6]:PORT")
    address = text if bare or not match else match[1] or match[2]
    port = int(match[3]) if match and match[3] else 22
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a valid TCP port")
    if (":" in address or re.fullmatch(r"[0-9.]+", address)) and is_of_tailnet(ipaddress.ip_address(address)):
        raise ValueError(f"{address} is an address of the tailnet; local needs one outside it")
    return address, port


def _local(text: str) -> str:
    parse_local(text)
    return text


_FlakeReference = Annotated[str, Field(pattern=r"^[^-\s#\x00-\x1f][^\s#\x00-\x1f]*$", max_length=1000)]


class Host(Frozen):
    """A host of the inventory.

    Attributes:
        name: the name of its table in the inventory, its deployment and its folder in the vault.
        target: the address: a MagicDNS name, an IP address, or a name in the ssh config; by default the host's name.
        flake: the flake with the system; a relative path starts at the inventory's folder.
        file: a Nix file with the system, in place of a flake; a folder stands for its `default.nix`.
        attribute: the name in the flake's `nixosConfigurations`, or the path in the file; by default the host's name.
        hardware_report: a table of `backend` and `file`: a report about the machine's hardware, written into the flake.
        kexec: the kexec image: a tarball, a folder with one, a flake's output, or a URL with `#sha256=HEX`.
        kexec_extra_flags: more flags for the kexec that starts the installer; a list of words.
        nix_options: a table of settings for the operator's nix, each as `--option NAME VALUE`.
        build_on: where the system is built: `local`, `remote` (by the installer), or `auto`: local if that is possible.
        way: `tailscale` keeps the machine on its tailnet; with `standard` it is away from kexec until the end.
        user: login name on the origin.
        port: TCP port of the origin's SSH server.
        identity_file: SSH private key to log in with; by default those of the ssh config and the agent.
        proxy: `tailscale-nc`, `socks5://HOST:PORT`, or `command: ARGV` with %h, %p, %r; without it, direct.
        local: an address outside the tailnet: `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`.
            It is asked when the machine does not return: directly, never through `proxy`.
        go_on_over_local: whether a run may continue over `local` when the machine does not answer at `target`.
        host_key: the pinned SSH host key, `TYPE BASE64`, as `ssh-ed25519 AAAA…`.
        elevation: how the login becomes root, if it is another user.
        deadlines: a table of seconds, how long each part may take.
        approve: when a person must resume the run first; `unpinned`: unless `disks` pins every disk that is wiped.
        disks: the disks that may be wiped; if empty, those that the disko configuration names.
        extra_files: folder to copy into the new root.
        files: files of the final system with owner and mode, each from a file or a command on the operator.
        encryption_keys: key files for the disko script; they are in the installer's RAM while the script runs.
        installer_secrets: secrets for the image's commands before Tailscale; they stay in the installer's RAM.
        keep: a table of what is carried over: `tailscale_state`, `machine_id`.
        post_install: a command, as a list of words, that runs as root in the final system once that is proved.
        standby: whether the new disk boots the installer until the final system's boot loader is in place.
        substitute_on_destination: whether the installer fetches what it can from its own substituters.
        allow: the refusals that the user overrides.
        rehearsal_max_age_days: how old the rehearsal may be that an install needs; without it, none is needed.
        schedule: when the first install begins: a cron line in UTC as `0 3 * * 6`, or a table of `cron` and `timezone`.

    """

    name: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
    target: _Address = ""
    flake: _FlakeReference = "."
    file: InventoryPath | None = None
    attribute: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)] = ""
    hardware_report: HardwareReport | None = None
    kexec: Annotated[
        str, Field(pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$", max_length=4096), AfterValidator(_image_reference)
    ] = f"{PROJECT}#kexec-tailscale"
    kexec_extra_flags: KexecFlags = ()
    nix_options: NixOptions = Field(default={})
    build_on: BuildOn = BuildOn.LOCAL
    way: Way = Way.TAILSCALE
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$", max_length=64)] = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    identity_file: InventoryPath | None = None
    proxy: (
        Annotated[str, Field(pattern=r"^(tailscale-nc|socks5://[^\s/@]+:[0-9]{1,5}|command:\s*[^\x00-\x1f]+)$")] | None
    ) = None
    local: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_local)] | None = None
    go_on_over_local: StrictBool = False
    host_key: Annotated[str, Field(pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}$")] | None = None
    elevation: Literal["none", "sudo", "doas"] = "none"
    deadlines: Deadlines = Deadlines()
    approve: Approve = Approve.UNPINNED
    disks: tuple[DiskPin, ...] = ()
    extra_files: InventoryPath | None = None
    files: Annotated[tuple[ExtraFile, ...], AfterValidator(distinct)] = ()
    encryption_keys: Annotated[tuple[EncryptionKey, ...], AfterValidator(distinct)] = ()
    installer_secrets: Annotated[
        tuple[InstallerSecret, ...], Field(max_length=MAX_INSTALLER_SECRETS), AfterValidator(distinct)
    ] = ()
    keep: Keep = Keep()
    post_install: Annotated[tuple[Argument, ...], Field(max_length=256)] = ()
    standby: StrictBool = True
    substitute_on_destination: StrictBool = True
    allow: tuple[Allowance, ...] = ()
    rehearsal_max_age_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    schedule: Schedule | None = None

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401  pydantic's own signature
        """Fill in the defaults that come from the name, and resolve relative paths in references."""
        if not isinstance(values, Mapping):
            return values
        made = dict(values)
        for key in ("target", "attribute"):
            made.setdefault(key, made.get("name"))
        folder: Path | None = (info.context or {}).get("folder")
        if folder is not None:
            made.setdefault("flake", ".")
            for key, resolve in (("flake", resolve_reference), ("kexec", resolve_image)):
                if isinstance(made.get(key), str):
                    made[key] = resolve(made[key], folder)
        return made

    @field_validator("go_on_over_local")
    @classmethod
    def _has_local(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "local" in info.data and info.data["local"] is None:
            raise ValueError("it needs an address in local")
        return value

    @property
    def source(self) -> str:
        """Where the system is described, for people: the flake, or the file."""
        return str(self.file) if self.file else self.flake

    @property
    def system(self) -> str:
        """The system, for people: where it is described, and its attribute there."""
        return f"{self.source}, {self.attribute}" if self.file else f"{self.flake}#{self.attribute}"

    @property
    def kexec_is_path(self) -> bool:
        """Whether `kexec` names a file or folder, not a flake's output or a URL."""
        return is_path(self.kexec)

    @property
    def kexec_download(self) -> Download | None:
        """The download that `kexec` names; None if it is not a URL."""
        return parse_download(self.kexec)

    def may_bring(self, path: str) -> bool:
        """Return whether `files` have this file, or one of this folder. `extra_files` is not looked into: it may."""
        wanted = f"{posixpath.normpath(path)}/"
        return self.extra_files is not None or any(
            f"{posixpath.normpath(file.path)}/".startswith(wanted) for file in self.files
        )
