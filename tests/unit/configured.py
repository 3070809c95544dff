"""Configurations for the tests of what a configuration is refused for: one that comes back, with changes."""

import json
from typing import Any

from holdfast.inventory.host import Host
from holdfast.plan.configuration import Configuration, parse_configuration
from holdfast.plan.plan import Login
from holdfast.plan.refusals.checking import check_configuration
from tests.unit.cases import CONFIGURATION, LOGIN_KEY, facts, plan


def seen(**changed: Any) -> Configuration:
    """Return the configuration that comes back, with other answers. One that is a table is merged key by key."""
    unknown = changed.keys() - CONFIGURATION.keys()
    assert not unknown
    nested = ("elevation", "grub", "initrd", "limine")
    merged = {key: CONFIGURATION[key] | value if key in nested else value for key, value in changed.items()}
    return parse_configuration(json.dumps(CONFIGURATION | merged))


def check(
    configuration: Configuration,
    inventory: Host,
    *,
    key: str = LOGIN_KEY,
    host_key: str = "ssh-ed25519 AAAA",
    sudo_password: bool = False,
    said: dict[str, str] | None = None,
) -> tuple[str, ...]:
    """Check it for a recorded machine, with other facts, another key that logs in, another host key."""
    login = Login(user=inventory.user, port=inventory.port, key=key)
    made = plan(facts("debian-12", **(said or {})), inventory, login=login)
    made = made.model_copy(update={"origin": made.origin.model_copy(update={"host_key": host_key})})
    return check_configuration(configuration, inventory, made, sudo_password=sudo_password)
