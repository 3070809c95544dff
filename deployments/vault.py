"""`just vault list [HOST]`, `just vault restore HOST [ARCHIVE]`: list the vault's archives, put one back on a machine.

`list` opens no archive. `restore` connects like a run, to the host's `target`, else to its `local`. It refuses an
unknown host key.
"""

import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from deployments.terminal import TerminalLog, console
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import Settings, settings
from holdfast.base.text import printable
from holdfast.inventory.loading import chosen_host, load_inventory
from holdfast.tailnet.vault import Kept, Vault
from holdfast.target.machine import Machine
from holdfast.target.restoring import choose, restore

USAGE = "usage: just vault list [HOST] | just vault restore HOST [ARCHIVE]"
WIDTH_OF_A_FILE = 200


def main(*words: str) -> int:
    """Carry out the verb. If that is not possible, print one line and return 2."""
    try:
        match words:
            case ["list"] | ["list", _]:
                _list(settings(), *words[1:])
            case ["restore", _] | ["restore", _, _]:
                _restore(settings(), *words[1:])
            case _:
                print(USAGE, file=sys.stderr)
                return 2
    except HoldfastError as error:
        print(f"vault: {error}", file=sys.stderr)
        return 2
    return 0


def _list(chosen: Settings, host: str = "") -> None:
    vault = Vault(chosen)
    hosts = vault.hosts()
    if host and host not in hosts:
        load_inventory(chosen.inventory).host(host)
        print(f"The vault {chosen.vault_dir} has no archive of {host}.")
        return
    kept = [(name, vault.kept(name)) for name in ([host] if host else hosts)]
    if not any(entries for _, entries in kept):
        print(f"The vault {chosen.vault_dir} is empty.")
        return
    table = Table("host", "archive", "when", "node", "name", "encrypted", "size", "", pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for name, entries in kept:
        for entry in reversed(entries):
            table.add_row(*(Text(printable(cell)) for cell in _row(name, entry, newest=entry is entries[-1])))
    console(WIDTH_OF_A_FILE).print(table)


def _row(host: str, entry: Kept, *, newest: bool) -> Sequence[str]:
    identity = entry.label.identity if entry.label else None
    when = f"{entry.when:%Y-%m-%d %H:%M:%S} UTC" if entry.when else "unknown"
    return (
        host,
        entry.path.name,
        when,
        identity.describe() if identity else "unknown: no label that can be read",
        (identity.dns_name or "none") if identity else "",
        "yes" if entry.encrypted else "no",
        f"{entry.size_bytes} bytes",
        "newest" if newest else "",
    )


def _restore(chosen: Settings, name: str, archive: str = "") -> None:
    # A machine that has lost its state may be reachable only at its local address.
    host = chosen_host(chosen.inventory, name).model_copy(update={"go_on_over_local": True})
    entry = choose(Vault(chosen), name, archive)
    machine = Machine(host, TerminalLog("vault"))
    machine.log.say(f"the archive is {entry.path.name}")
    with machine.connect() as target:
        done = restore(machine, target, entry, chosen)
    node = done.identity.describe()
    if done.already:
        print(f"{name} is {node} already: there is nothing to restore.")
        return
    print(f"{name} is {node} now. No other machine may use this state from now on.")
    if done.kept:
        print(f"Its earlier state is in {done.kept} there; remove it when it is no longer needed.")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
