"""What `ip` said in the origins of origins.py, in the machine of test_way_out.py, for tests that cannot start it.

answers.json has a line for each origin: its name, and what `ip --json --details addr`, `ip --json route` and the same
with `-6` said, without what nobody reads (`trimmed`). For a new origin, take what test_way_out.py prints.
"""

import json
from pathlib import Path
from typing import Any

Answers = list[list[dict[str, Any]]]

_LINK_KEYS = "ifname flags mtu master link link_type address permaddr linkinfo addr_info"
_DATA_KEYS = (
    "id protocol mode miimon updelay downdelay ad_lacp_rate xmit_hash_policy fail_over_mac min_links stp_state"
    " perm_hwaddr primary"
)


def recorded() -> dict[str, Answers]:
    """Return the answers by the name of their origin."""
    said: dict[str, Answers] = json.loads(Path(__file__).with_name("answers.json").read_text())
    return said


def trimmed(said: Answers) -> Answers:
    """Return the answers without what neither restore-network.sh nor the plan reads."""
    links = [{key: value for key, value in link.items() if key in _LINK_KEYS.split()} for link in said[0]]
    for link in links:
        if "linkinfo" in link:
            info = link["linkinfo"] = dict(link["linkinfo"])
            for name in {"info_data", "info_slave_data"} & info.keys():
                info[name] = {key: value for key, value in info[name].items() if key in _DATA_KEYS.split()}
    return [links, *said[1:]]
