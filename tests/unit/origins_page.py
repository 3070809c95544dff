"""Makes docs/origins.md: what the plan says of recorded origins. `python -m tests.unit.origins_page` writes it anew."""

import tempfile
from pathlib import Path
from typing import Final

from holdfast.facts.way_back import WayBackFacts
from holdfast.plan.way_back.origin import origin_rows
from holdfast.plan.way_back.row import Verdict
from tests.unit.cases import host
from tests.unit.origins_others import ALL
from tests.unit.origins_table import FAMILIES, Case, worst

PAGE: Final = Path(__file__).parents[2] / "docs" / "origins.md"
_HEAD: Final = """# Origins, and whether they come back

The installer leaves by a reboot into the origin: at the end of a rehearsal, when the dead-man fires, after a panic. So
the plan says, before anything is changed, whether the origin comes back by itself, on its tailnet (*The way back*).
This page shows what it says of origins that a test makes [of a few lines each](../tests/unit/origins_table.py), over
which the real script runs, with dash and with busybox. It is what this version says.

- `strands`: the machine would not come back by itself. `preflight` refuses it, unless `allow` has
  `origin-may-not-return`.
- `unproved`: nothing shows that it comes back. The plan warns. [A rehearsal of the origin](howto/rehearse.md) proves
  it.
- `fine`: all that was looked at speaks for it.

## Systems that come back

{families}

Their rows are like these, of the first one:

| about | seen | what it means |
|---|---|---|
{rows}

## What the plan says otherwise

| origin | verdict | why |
|---|---|---|
"""
_TAIL: Final = """
## What counts, and what cannot be seen

- **SSH in the initrd strands.** With dropbear, tinysshd or sshd in the initrd, somebody has to type the passphrase. The
  dead-man cannot, and that SSH server is not on the tailnet. If you reach it another way, allow it.
- **A TPM counts** if the header has its token, a TPM is there, and the initrd is told to ask it. **Clevis counts** if
  the header has its token and the initrd has Clevis. Whether the TPM still opens it, or a Tang server answers, only a
  reboot shows.
- **The initrd is read only if something is encrypted**, with `lsinitramfs`, `lsinitrd`, `lsinitcpio` or `cpio`.
- **An encrypted device counts** if a boot needs what lies on it, or if crypttab opens it and the boot waits for that.
- **A boot loader that waits** is one without a timeout, or one that asks for a password before it starts its default.
- **Changes** are files that were put there more than 15 minutes after the boot: a boot writes some itself. tailscaled's
  own count only if it was not started since. On NixOS the system that booted is compared with the one that is next.
- **A default that cannot be told** has no row: the boot loader has started what runs, and what has changed since is
  said. So it is with boards whose firmware starts the kernel.
- **Errors of file systems** are those that ext4 and btrfs have counted, and disks that an md array lacks.
- Not seen: an encrypted bcachefs; a firewall that is loaded at boot; a network that has changed around the machine;
  what a script that opens a device asks.
"""


def page(seen: dict[str, WayBackFacts]) -> str:
    """Return the page, made of what way-back.sh told of each origin of the table."""
    first = origin_rows(seen[ALL[0].name], host())
    rows = "\n".join(f"| {row.subject} | {row.seen} | {row.means} |" for row in first)
    families = "\n".join(f"- {case.name}" for case in ALL[:FAMILIES])
    others = [_line(case, seen[case.name]) for case in ALL[FAMILIES:]]
    return _HEAD.format(families=families, rows=rows) + "\n".join(others) + "\n" + _TAIL


def _line(case: Case, seen: WayBackFacts) -> str:
    rows = tuple(origin_rows(seen, host()))
    why = "; ".join(row.seen for row in rows if row.verdict is not Verdict.FINE)
    of_its_kind = [row.seen for row in rows if row.subject in ("encryption", "tailscaled")]
    return f"| {case.name} | {worst(rows)} | {why or of_its_kind[0]} |"


if __name__ == "__main__":
    told = {}
    for one in ALL:
        with tempfile.TemporaryDirectory() as made_in:
            told[one.name] = one.make().look(Path(made_in))
    PAGE.write_text(page(told))
