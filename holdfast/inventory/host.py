"""The inventory: which hosts there are, how each is reached, and what is installed on it."""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from holdfast.base.errors import ConfigError
from holdfast.base.frozen import Frozen
from holdfast.base.settings import PROJECT, settings
from holdfast.facts.identity import is_of_tailnet
from holdfast.inventory.reference import (
    Download,
    InventoryPath,
    is_path,
    parse_download,
    resolve_image,
    resolve_reference,
)
from holdfast.inventory.secret import MAX_INSTALLER_SECRETS, EncryptionKey, ExtraFile, InstallerSecret, distinct

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DAY_S: Final = 86400.0

# Tables whose keys are merged one by one with those of [defaults].
_MERGED: Final = ("deadlines", "keep")


class Way(StrEnum):
    """How the target goes through kexec: on its tailnet, or, the standard way, without it."""

    TAILSCALE = "tailscale"
    STANDARD = "standard"


class Approve(StrEnum):
    """Whether a person has to resume the run before the target is changed.

    `unpinned`: unless the inventory pins every disk that will be wiped (holdfast/plan/approval.py).
    """

    ALWAYS = "always"
    UNPINNED = "unpinned"
    NEVER = "never"


def _image_reference(reference: str) -> str:
    parse_download(reference)
    return reference


Allowance = Literal["no-tailscale", "no-sshd", "no-authorized-key", "no-boot-loader", "no-host-id"]
"""A refusal of `build` that the user may answer with "I know"; see holdfast/plan/configuration.py."""

Seconds = Annotated[float, Field(gt=0, le=7 * DAY_S)]


class Deadlines(Frozen):
    """How long the parts of an install may take, in seconds.

    Attributes:
        connect_s: to open a connection.
        answer_s: for a target that is out of reach when a phase begins, to answer.
        upload_s: to upload the kexec image, or the extra files.
        build_s: to build the image, or the system.
        kexec_return_s: from kexec until the installer answers.
        partition_s: for the disko script.
        copy_s: to copy the closure.
        install_s: for nixos-install.
        reboot_return_s: from the reboot until the final system answers.
        dead_man_s: after which the installer reboots into the origin if nobody comes; at least a minute.
        approval_s: for a person to approve the plan.

    """

    connect_s: Seconds = 30
    answer_s: Seconds = 600
    upload_s: Seconds = 3600
    build_s: Seconds = 4 * 3600
    kexec_return_s: Seconds = 600
    partition_s: Seconds = 1800
    copy_s: Seconds = 4 * 3600
    install_s: Seconds = 3600
    reboot_return_s: Seconds = 600
    dead_man_s: Annotated[float, Field(ge=60, le=7 * DAY_S)] = 900
    approval_s: Seconds = DAY_S


class Keep(Frozen):
    """What is carried from the old system into the new one, beside the SSH host keys.

    Attributes:
        tailscale_state: who the machine is on the tailnet.
        machine_id: /etc/machine-id.

    """

    tailscale_state: bool = True
    machine_id: bool = False


class DiskPin(Frozen):
    """A disk that the install may wipe, by what its maker wrote into it.

    Attributes:
        serial: its serial number.
        by_id: the name of one of its links in /dev/disk/by-id.
        size_bytes: its exact size, or None for any.

    """

    serial: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    by_id: Annotated[str, Field(pattern=r"^[^/\x00-\x20]{1,255}$")] | None = None
    size_bytes: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _named(self) -> "DiskPin":
        if self.serial is None and self.by_id is None:
            raise ValueError("a disk needs serial or by_id")
        return self


# As holdfast/ssh/endpoint.py: what may stand in a proxy's command line; a leading dash would be an option.
_Address = Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9_.:%-]*|::[A-Za-z0-9:.%]*)$", max_length=255)]


def parse_local(text: str) -> tuple[str, int]:
    """Read the inventory's `local`: `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`; the port is 22 if none is said.

    Raises:
        ValueError: it is none of these, or an address of the tailnet.

    """
    bare = re.fullmatch(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?", text)
    match = re.fullmatch(r"(?:\[([^][]+:[^][]*)\]|([A-Za-z0-9_][A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?", text, re.ASCII)
    if not bare and not match:
        raise ValueError("it is no ADDRESS, ADDRESS:PORT or [IPV6]:PORT")
    address = text if bare or not match else match[1] or match[2]
    port = int(match[3]) if match and match[3] else 22
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no TCP port")
    if (":" in address or re.fullmatch(r"[0-9.]+", address)) and is_of_tailnet(ipaddress.ip_address(address)):
        raise ValueError(f"{address} is an address of the tailnet, and local is for another one")
    return address, port


def _local(text: str) -> str:
    parse_local(text)
    return text


_FlakeReference = Annotated[str, Field(pattern=r"^[^-\s#\x00-\x1f][^\s#\x00-\x1f]*$", max_length=1000)]


class Host(Frozen):
    """A machine of the inventory.

    Attributes:
        name: the table's name in the inventory; also the deployment's and the vault folder's.
        target: the address: a MagicDNS name, an IP address, or a name of the ssh config; the host's name by default.
        flake: the flake that holds the system; a path starts at the inventory's folder.
        attribute: the name in its `nixosConfigurations`; the host's name by default.
        kexec: the kexec image: a tarball, a folder that holds one, a flake's output, or a URL with `#sha256=HEX`.
        way: whether the machine stays on the tailnet on its way; in either its new system gets its identity back.
        user: login on the origin.
        port: TCP port of the origin's SSH server.
        identity_file: private key to log in with; else those of the ssh config and the agent.
        proxy: `tailscale-nc`, `socks5://HOST:PORT`, `command: …` (with %h, %p, %r), or None.
        local: an address outside the tailnet, `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`, to ask when it is away;
            always directly, never through `proxy`.
        go_on_over_local: whether a run may go on over `local` when the machine does not answer at `target`.
        host_key: the pinned SSH host key, `TYPE BASE64`.
        elevation: how the login becomes root.
        deadlines: see there.
        approve: whether a person has to resume the run first; `unpinned`: unless `disks` pins what is wiped.
        disks: the disks that may be wiped; empty allows those that the disko configuration names.
        extra_files: folder whose content is copied into the new root.
        files: files of the new system, each with its owner and mode, from a file or a command of the operator.
        encryption_keys: key files for the disko script, in the installer's RAM while it runs.
        installer_secrets: secrets for the image's commands before Tailscale, in the installer's RAM as long as it runs.
        keep: what is carried over.
        standby: whether the new disk boots the installer until the new system's boot loader is in place.
        allow: the refusals of `build` to which the user says "I know".
        rehearsal_max_age_days: an install demands a rehearsal not older than so many days; None demands none.
        schedule: cron expression of a maintenance window, or None.

    """

    name: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
    target: _Address = ""
    flake: _FlakeReference = "."
    attribute: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)] = ""
    kexec: Annotated[
        str, Field(pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$", max_length=4096), AfterValidator(_image_reference)
    ] = f"{PROJECT}#kexec-tailscale"
    way: Way = Way.TAILSCALE
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$", max_length=64)] = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    identity_file: InventoryPath | None = None
    proxy: (
        Annotated[str, Field(pattern=r"^(tailscale-nc|socks5://[^\s/@]+:[0-9]{1,5}|command:\s*[^\x00-\x1f]+)$")] | None
    ) = None
    local: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_local)] | None = None
    go_on_over_local: bool = False
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
    standby: bool = True
    allow: tuple[Allowance, ...] = ()
    rehearsal_max_age_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    schedule: Annotated[str, Field(pattern=r"^\S+( \S+){4}$", max_length=100)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401  pydantic's own signature
        """Fill in what follows from the name, and resolve the paths inside references."""
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
    def kexec_is_path(self) -> bool:
        """Whether `kexec` names a file or folder rather than a flake's output or a URL."""
        return is_path(self.kexec)

    @property
    def kexec_download(self) -> Download | None:
        """What `kexec` names if it is a URL."""
        return parse_download(self.kexec)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts of a file.

    Attributes:
        path: the file.
        hosts: the hosts by name, in the file's order.

    """

    path: Path
    hosts: Mapping[str, Host]

    def host(self, name: str) -> Host:
        """Return a host.

        Raises:
            ConfigError: the inventory does not have it; says which it has.

        """
        if name not in self.hosts:
            raise ConfigError(
                f"there is no host {name[:80]!r} in {self.path}; there are: {', '.join(self.hosts)}."
                f"{_similar(name, self.hosts)}",
                hint=f"Add a table [{name[:63]}] there, or name another host.",
            )
        return self.hosts[name]


def load_inventory(path: Path) -> Inventory:
    """Read the inventory.

    Raises:
        ConfigError: it is not there, is no TOML, or holds a wrong or unknown key; names the file, the key and the
            allowed ones.

    """
    hint = "Write one (deployments/hosts.toml is an example) and point HOLDFAST_INVENTORY at it."
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no inventory {path}.", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"the inventory {path} cannot be read: {error.strerror}.", hint=hint) from error
    except (ValueError, RecursionError) as error:  # beside tomllib's own: bytes, a NUL in the path, a number too long
        raise ConfigError(f"{path} is no TOML: {error}.", hint="Correct that line.") from error
    defaults = tables.pop("defaults", {})
    for name, table in {"defaults": defaults, **tables}.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {name!r} stands outside any table.", hint="Put it under [defaults] or under a host."
            )
    hosts = {name: _parse_host(path, name, table, defaults) for name, table in tables.items()}
    if not hosts:
        raise ConfigError(f"{path} names no host.", hint="Add a table: its name is the host's.")
    return Inventory(path, hosts)


def chosen_host(
    inventory: Path, name: str, *, target: str | None = None, image: str | None = None, way: str | None = None
) -> Host:
    """Return a host of the inventory with what a run was told on top.

    Args:
        inventory: the inventory's file.
        name: the host.
        target: another address.
        image: another kexec image; a relative path starts at the working folder.
        way: `tailscale` or `standard`. The standard way takes the settings' stock image, unless `image` is given, or
            the inventory itself says `way = "standard"` and names an image.

    Raises:
        ConfigError: see load_inventory; or a value is not valid.

    """
    host = load_inventory(inventory).host(name)
    told: dict[str, object] = {}
    if target:
        told["target"] = target
    if way:
        told["way"] = way
    if image:
        try:
            told["kexec"] = resolve_image(image, Path.cwd())
        except ValueError as error:
            raise ConfigError(f"the run's parameters: image is {image!r:.120}: {error}.", hint="Correct it.") from error
    elif (way or host.way) == Way.STANDARD and not (host.way is Way.STANDARD and "kexec" in host.model_fields_set):
        told["kexec"] = resolve_image(settings().standard_image, Path.cwd())
    if not told:
        return host
    try:
        return Host.model_validate(host.model_dump(exclude_unset=True) | told)
    except ValidationError as error:
        raise _explained("the run's parameters", name, error) from None


def _parse_host(path: Path, name: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Host:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: {name[:80]!r} cannot be a host's name.",
            hint="Use 1 to 63 lower-case letters, digits and dashes, as in a DNS label.",
        )
    if "name" in table or "name" in defaults:
        raise ConfigError(f"{path}: [{name}] has the key name.", hint="The table's own name is the host's name.")
    merged = {**defaults, **table}
    for key in _MERGED:
        if isinstance(defaults.get(key), dict) and isinstance(table.get(key), dict):
            merged[key] = {**defaults[key], **table[key]}
    try:
        return Host.model_validate({"name": name, **merged}, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise _explained(str(path), name, error) from None


def _explained(where: str, name: str, error: ValidationError) -> ConfigError:
    """Turn the first thing that pydantic found into one line that names place, key and what is allowed."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    if first["type"] == "extra_forbidden":
        allowed = sorted(_keys_beside(first))
        wrong = str(first["loc"][-1])
        return ConfigError(
            f"{where}: [{name}] has an unknown key {key[:80]!r}; allowed are: {', '.join(allowed)}.",
            hint=_similar(wrong, allowed).strip() or "Remove it.",
        )
    value = first["input"]
    # Pydantic lists the allowed words as 'a', 'b' or 'c'.
    words = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    shown = f" is {value!r}"[:120] if isinstance(value, str | int | float | bool) else ""
    hint = f"{_meaning(first)}{_similar(str(value), words)}"
    return ConfigError(f"{where}: [{name}] {key}{shown}: {first['msg']}.", hint=hint)


def _is_branch(part: int | str) -> bool:
    """Say whether a part of pydantic's path names a branch of a union and no key."""
    return isinstance(part, str) and ("[" in part or part == "str")


def _keys_beside(first: ErrorDetails) -> list[str]:
    """Return the keys that are allowed where an unknown one stands."""
    nested: dict[str, type[BaseModel]] = {
        "deadlines": Deadlines,
        "keep": Keep,
        "disks": DiskPin,
        "files": ExtraFile,
        "encryption_keys": EncryptionKey,
        "installer_secrets": InstallerSecret,
    }
    table = str(first["loc"][0])
    if len(first["loc"]) > 1 and table in nested:
        return [field.alias or key for key, field in nested[table].model_fields.items()]
    return [key for key in Host.model_fields if key != "name"]


def _meaning(first: ErrorDetails) -> str:
    """Return what the docstring of Host says about a key."""
    for line in (Host.__doc__ or "").splitlines():
        key, _, meaning = line.strip().partition(": ")
        if first["loc"] and key == str(first["loc"][0]):
            return f"{key} is {meaning}"
    return "Correct it."


def _similar(wrong: str, known: Mapping[str, object] | list[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
