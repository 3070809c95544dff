"""Whether a user of the new system becomes root without a password."""

import re
from typing import Final

from holdfast.plan.configuration import Configuration

# sudoers(5): USER HOSTS = (RUNAS) TAG: COMMANDS
_SUDOERS: Final = re.compile(r"(?P<who>\S+)\s+[^=]+=\s*(?:\((?P<run_as>[^)]*)\)\s*)?(?P<what>.*)")


def becomes_root(seen: Configuration, user: str, elevation: str, *, sudo_password: bool) -> bool:
    """Return whether a login becomes root as the inventory says.

    Args:
        seen: the configuration.
        user: the login.
        elevation: `none`, `sudo` or `doas`.
        sudo_password: whether Holdfast knows a password; that it is this system's, too, is not known here.

    """
    if user == "root":
        return True
    groups = set(seen.users[user].groups) if user in seen.users else set()
    if elevation == "sudo":
        asks = _sudo_asks(seen, user, groups)
        if seen.elevation.sudo_wheel_only and "wheel" not in groups:
            return False
        return seen.elevation.sudo and asks is not None and (sudo_password or not asks)
    return elevation == "doas" and seen.elevation.doas and _doas_permits(seen, user, groups)


def _sudo_asks(seen: Configuration, user: str, groups: set[str]) -> bool | None:
    """Return whether sudo asks for a password; None if it permits nothing. The last rule that fits counts."""
    asks: bool | None = None
    for rule in seen.elevation.sudo_rules:
        if not (user in rule.users or "ALL" in rule.users or groups & set(rule.groups)):
            continue
        if not _as_root(rule.run_as):
            continue
        for command in rule.commands:
            if command.command == "ALL":
                asks = "NOPASSWD" not in command.options
    free = False
    for line in (line.strip() for line in seen.elevation.sudo_extra):
        free = free or _is_free_of_passwords(line, user, groups)
        rule_ = _SUDOERS.fullmatch(line)
        if line.startswith(("Defaults", "#")) or rule_ is None or not _as_root(rule_["run_as"] or "root"):
            continue
        if rule_["who"] in ("ALL", user) or (rule_["who"].startswith("%") and rule_["who"][1:] in groups):
            tags, _, commands = rule_["what"].rpartition(":")
            if "ALL" in re.split(r"[\s,]+", commands):
                # A tag counts for the commands after it, until another one says the opposite.
                asks = re.findall(r"\b(?:NO)?PASSWD\b", tags)[-1:] != ["NOPASSWD"]
    return False if free and asks is not None else asks


def _is_free_of_passwords(line: str, user: str, groups: set[str]) -> bool:
    found = re.fullmatch(r"Defaults(?::(\S+))?\s+!authenticate", line)
    if found is None:
        return False
    named = (found[1] or "ALL").split(",")
    return bool({"ALL", user, *(f"%{group}" for group in groups)} & set(named))


def _as_root(run_as: str) -> bool:
    return bool({"ALL", "root"} & set(re.split(r"[\s,]+", run_as.partition(":")[0])))


def _doas_permits(seen: Configuration, user: str, groups: set[str]) -> bool:
    """Return whether doas permits everything without a password. The last rule that fits counts."""
    permits = False
    for rule in seen.elevation.doas_rules:
        if rule.everything and (user in rule.users or groups & set(rule.groups)):
            permits = rule.no_password
    for line in seen.elevation.doas_extra:
        words = re.sub(r"#.*|setenv\s*\{[^}]*\}", "", line).split()
        if not words or words[0] not in ("permit", "deny"):
            continue
        options = set(words[1:]) & {"nopass", "nolog", "persist", "keepenv"}
        who, *rest = [word for word in words[1:] if word not in options] or [""]
        fits = who == user or (who.startswith(":") and who[1:] in groups)
        if fits and "cmd" not in rest and rest[:2] in ([], ["as", "root"]):
            permits = words[0] == "permit" and "nopass" in options
    return permits
