"""What a target says about its hardware, made into a file that Nix on the operator may evaluate.

nixos-generate-config prints Nix, and Nix is a program: it could read any file of the operator. So nothing of it is
taken over as text. Only statements of the kinds that it prints are known, and they are written anew.
nixos-facter prints JSON, which is data. Only the names in it that NixOS makes modules, units and links of are checked.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

MAX_NIX_BYTES: Final = 64 * 1024
MAX_JSON_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 32
_INTEGERS: Final = range(-(2**63), 2**63)

_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_DEFAULT: Final = r"lib\.mkDefault"
# What nixpkgs' nixos-generate-config.pl prints with --no-filesystems, from 21.05 on. Each of these, at most once.
# The modules and the package are named: others of nixpkgs open a login without a password, for one.
_STATEMENTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r'imports = \[ (?:\(modulesPath \+ "/(?:profiles/qemu-guest|installer/scan/not-detected'
        r'|hardware/network/broadcom-43xx)\.nix"\) )*\]',
        rf'boot\.(?:initrd\.availableKernelModules|initrd\.kernelModules|kernelModules) = \[ (?:"{_WORD}" )*\]',
        r"boot\.extraModulePackages = \[ (?:config\.boot\.kernelPackages\.broadcom_sta )*\]",
        rf"networking\.useDHCP = {_DEFAULT} (?:true|false)",
        rf"networking\.interfaces\.[A-Za-z][A-Za-z0-9_-]{{0,14}}\.useDHCP = {_DEFAULT} (?:true|false)",
        rf'nixpkgs\.hostPlatform = {_DEFAULT} "[a-z0-9_]{{1,32}}-linux"',
        rf"hardware\.cpu\.(?:amd|intel)\.updateMicrocode = {_DEFAULT} config\.hardware\.enableRedistributableFirmware",
        rf'powerManagement\.cpuFreqGovernor = {_DEFAULT} "[a-z]{{1,32}}"',
        r"networking\.enableIntel(?:2200BG|3945ABG)Firmware = true",
        r"virtualisation\.(?:hypervGuest|virtualbox\.guest)\.enable = true",
        r"hardware\.parallels\.enable = true",
        r'nixpkgs\.config\.allowUnfreePredicate = pkg: builtins\.elem \(lib\.getName pkg\) \[ "prl-tools" \]',
    )
)
_MODULE: Final = re.compile(r"\{ ?(?:[a-zA-Z]+, )*\.\.\. ?\}: ?\{ ?(.*) ?\}", re.DOTALL)
_HEAD: Final = "{ config, lib, modulesPath, ... }:"
_PLACEHOLDER: Final = "nothing is known yet"

# The keys of nixos-facter whose texts name kernel modules, and devices.
_NAMING: Final = re.compile(r"(?:driver_module|unix_device_name)s?")
_NAME: Final = re.compile(r"(?:/dev/[^\s\"'`$;&|<>(){}*?!]{1,250}|[A-Za-z0-9][A-Za-z0-9_.:@+/-]{0,99})?")


def generated(said: bytes, host: str) -> str:
    """Return a Nix module that says what nixos-generate-config said.

    Args:
        said: what it printed.
        host: the host's name, for the file's first line.

    Raises:
        ValueError: it says something that Holdfast does not know, and so does not take over.

    """
    text = said.decode("utf-8")
    body = " ".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    module = _MODULE.fullmatch(" ".join(body.split()))
    if not module:
        raise ValueError("it is not a module as nixos-generate-config prints it")
    *statements, rest = (piece.strip() for piece in module[1].split(";"))
    if rest:
        raise ValueError(f"it has {rest[:80]!r} at its end")
    seen = set()
    for statement in statements:
        name = statement.partition(" = ")[0]
        if not any(known.fullmatch(statement) for known in _STATEMENTS):
            raise ValueError(f"it has {statement[:120]!r}, which Holdfast does not take over")
        if name in seen:
            raise ValueError(f"it has {name[:80]} twice")
        seen.add(name)
    if not statements:
        raise ValueError("it says nothing")
    return _module(f"what nixos-generate-config said of {host}", statements)


def facter(said: bytes) -> str:
    """Return what nixos-facter said, as JSON.

    Raises:
        ValueError: it is no report of nixos-facter, or has a name that NixOS could stumble over.

    """
    try:
        report = json.loads(said.decode("utf-8"), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(report, dict) or not isinstance(report.get("version"), int):
        raise ValueError("it is no report of nixos-facter")
    if not isinstance(report.get("hardware"), dict) or not report["hardware"]:
        raise ValueError("it names no hardware")
    if not re.fullmatch(r"[a-z0-9_]{1,32}-linux", str(report.get("system"))):
        raise ValueError("it names no platform")
    for key, value in _values(report, "", MAX_DEPTH):
        _check(key, value)
    return _json(report)


def placeholder(backend: str, platform: str) -> str:
    """Return what stands for a report that could not be made yet, so that the flake can be evaluated.

    Args:
        backend: the program that will make the report.
        platform: the machine's, as Nix names it: `x86_64-linux`.

    """
    if backend == "nixos-facter":
        # The least that nixpkgs' nixos/modules/hardware/facter takes.
        cpu = [{"vendor_name": _PLACEHOLDER}]
        return _json({"version": 1, "system": platform, "virtualisation": "none", "hardware": {"cpu": cpu}})
    return _module(_PLACEHOLDER, [f'nixpkgs.hostPlatform = lib.mkDefault "{platform}"'])


def is_placeholder(text: str) -> bool:
    """Return whether this is what `placeholder` returns, for some platform."""
    platform = re.search(r'"([a-z0-9_]{1,32}-linux)"', text)
    return platform is not None and text in (
        placeholder("nixos-facter", platform[1]),
        placeholder("nixos-generate-config", platform[1]),
    )


def _module(what: str, statements: list[str]) -> str:
    head = f"# Written by Holdfast: {what}. A newer report replaces it, unless it was changed by hand.\n{_HEAD}\n\n{{\n"
    return head + "".join(f"  {statement};\n" for statement in statements) + "}\n"


def _json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2) + "\n"


def _refuse(constant: str) -> None:
    raise ValueError(f"it has {constant}, which is no JSON")


def _values(value: Any, key: str, depth: int) -> Iterator[tuple[str, object]]:  # noqa: ANN401  any JSON
    """Yield each key, under itself, and each value that is no table and no list, under its key."""
    if depth == 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _values(inner, name, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key, depth - 1)
    else:
        yield key, value


def _check(key: str, value: object) -> None:
    if isinstance(value, int) and value not in _INTEGERS:
        raise ValueError("it has a number that is too large for Nix")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it has a number that is too large for Nix")
    if not isinstance(value, str):
        return
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]", value):
        raise ValueError(f"it has a control character in {key or 'a key'}")
    if _NAMING.fullmatch(key) and not _NAME.fullmatch(value):
        raise ValueError(f"it has {value[:80]!r} as {key}")
