"""Reads the inventory's file: applies its defaults, and says with a hint what is wrong in it."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from holdfast.base.errors import ConfigError
from holdfast.base.settings import plain, settings
from holdfast.inventory.hardware import HardwareReport
from holdfast.inventory.host import NAME, Deadlines, DiskPin, Host, Keep, Way
from holdfast.inventory.reference import resolve_image
from holdfast.inventory.schedule import Schedule
from holdfast.inventory.secret import EncryptionKey, ExtraFile, InstallerSecret

# The keys of these tables are merged one by one with those of [defaults].
_MERGED: Final = ("deadlines", "keep", "nix_options")
# The keys whose value is a table, or a list of tables.
_NESTED: Final[Mapping[str, type[BaseModel]]] = {
    "deadlines": Deadlines,
    "keep": Keep,
    "disks": DiskPin,
    "hardware_report": HardwareReport,
    "files": ExtraFile,
    "encryption_keys": EncryptionKey,
    "installer_secrets": InstallerSecret,
    "schedule": Schedule,
}


# Keys that people try, and what Holdfast has in their place.
_INSTEAD: Final = {
    "store_paths": "Bare store paths are not taken (docs/howto/nixos-anywhere.md says why): name the Nix file that they"
    " are built from, with file and attribute.",
}
_DOTTED: Final = 'Remove it; if it is part of a name with a dot, that belongs in attribute = "…".'


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts of one file.

    Attributes:
        path: the file.
        hosts: the hosts by name, in the order of the file.

    """

    path: Path
    hosts: Mapping[str, Host]

    def host(self, name: str) -> Host:
        """Return a host.

        Raises:
            ConfigError: the inventory does not have it; the message names those that it has.

        """
        if name not in self.hosts:
            meant = _similar(name, self.hosts)
            raise ConfigError(
                f"there is no host {name[:80]!r} in {self.path}; there are: {', '.join(self.hosts)}.{meant}",
                hint="Correct the name." if meant else f"Add a table [{name[:63]}] there, or name another host.",
            )
        return self.hosts[name]


def load_inventory(path: Path) -> Inventory:
    """Read the inventory.

    Raises:
        ConfigError: it is missing, is not valid TOML, or has a wrong or unknown key; the message names the file, the
            key and the allowed keys.

    """
    hint = "Write one (deployments/hosts.toml is an example) and point HOLDFAST_INVENTORY at it."
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no inventory {path}.", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"the inventory {path} cannot be read: {error.strerror}.", hint=hint) from error
    except (ValueError, RecursionError) as error:  # also for invalid UTF-8, a NUL in the path, too long a number
        raise ConfigError(f"{path} is not valid TOML: {error}.", hint="Correct that line.") from error
    defaults = tables.pop("defaults", {})
    for name, table in {"defaults": defaults, **tables}.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {name!r} is outside any table.", hint="Put it under [defaults] or under a host."
            )
    hosts = {name: _parse_host(path, name, table, defaults) for name, table in tables.items()}
    if not hosts:
        raise ConfigError(f"{path} names no host.", hint="Add a table with the host's name.")
    return Inventory(path, hosts)


def chosen_host(
    inventory: Path, name: str, *, target: str | None = None, image: str | None = None, way: str | None = None
) -> Host:
    """Return a host of the inventory, changed by the parameters of a run.

    Args:
        inventory: the file of the inventory.
        name: the name of the host.
        target: another address.
        image: another kexec image; a relative path starts at the working directory.
        way: `tailscale` or `standard`. The standard way uses the stock image of the settings, unless `image` is given,
            or the inventory itself says `way = "standard"` and names an image.

    Raises:
        ConfigError: see load_inventory; or a value is invalid.

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
    if "hardware_report" in defaults:
        raise ConfigError(
            f"{path}: [defaults] has the key hardware_report, which names the file of one machine.",
            hint="Put it under each host.",
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
        wrong = error.errors(include_url=False)[0]["loc"][:1]
        of_defaults = wrong and wrong[0] in defaults and wrong[0] not in table
        raise _explained(str(path), "defaults" if of_defaults else name, error) from None


def _explained(where: str, name: str, error: ValidationError) -> ConfigError:
    """Return the first of pydantic's errors as one line with the place, the key and what is allowed."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    if first["type"] == "extra_forbidden":
        allowed = sorted(_keys_beside(first))
        wrong = str(first["loc"][-1])
        return ConfigError(
            f"{where}: [{name}] has an unknown key {key[:80]!r}; allowed are: {', '.join(allowed)}.",
            hint=_INSTEAD.get(wrong)
            or _similar(wrong, allowed).strip()
            or (_DOTTED if isinstance(first["input"], dict) else "Remove it."),
        )
    value = first["input"]
    # Pydantic lists the allowed words as 'a', 'b' or 'c'.
    words = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    shown = f" is {_as_toml(value)}"[:120] if isinstance(value, str | int | float | bool) else ""
    hint = f"{_meaning(first)}{_similar(str(value), words)}"
    return ConfigError(f"{where}: [{name}] {key}{shown}: {plain(first)}.", hint=hint)


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _is_branch(part: int | str) -> bool:
    """Return whether a part of pydantic's path is a branch of a union; False for a key."""
    return isinstance(part, str) and ("[" in part or part == "str")


def _keys_beside(first: ErrorDetails) -> list[str]:
    """Return the keys that are allowed where the unknown key is."""
    table = str(first["loc"][0])
    if len(first["loc"]) > 1 and table in _NESTED:
        return [field.alias or key for key, field in _NESTED[table].model_fields.items()]
    return [key for key in Host.model_fields if key != "name"]


def _meaning(first: ErrorDetails) -> str:
    """Return the meaning of a key, from the docstring of its table, else of the key of Host that holds the table."""
    keys = [str(part) for part in first["loc"] if isinstance(part, str)]
    meaning = meaning_of(_NESTED[keys[0]], keys[1]) if len(keys) > 1 and keys[0] in _NESTED else ""
    return meaning or (keys and meaning_of(Host, keys[0])) or "Correct it."


def meaning_of(table: type[BaseModel], key: str) -> str:
    """Return a key and its meaning, from the docstring of its table; empty if it is not there."""
    for model in table.__mro__:
        for line in (model.__doc__ or "").splitlines():
            name, _, meaning = line.strip().partition(": ")
            if meaning and name.rstrip("_") == key:  # `from_` is `from` in the inventory
                return f"{key}: {meaning}"
    return ""


def _similar(wrong: str, known: Mapping[str, object] | list[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
