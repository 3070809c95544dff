"""The order at the first boot, on a real UEFI firmware (OVMF): what it keeps, starts once, and falls back to.

The standby and the new system's boot loader are copies of the origin's systemd-boot, so each start ends in the origin.
Which entry the firmware has started is in its variable BootCurrent.
"""

import subprocess
from collections.abc import Iterator

import pytest

from holdfast.base.settings import script
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.efi import EfiFacts
from holdfast.target.boot_order import parse_said
from lab.qemu import UEFI
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

FOLDERS = ["/boot/EFI/holdfast", "/boot/EFI/systemd"]
REMOVABLE, STANDBY = "/boot/EFI/BOOT/BOOTX64.EFI", "/boot/EFI/holdfast/standby.efi"


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Lab]:
    with lab.other_machine(UEFI):
        lab.ssh_local(["mkdir", "-p", *FOLDERS])
        lab.ssh_local(["cp", REMOVABLE, STANDBY])
        lab.ssh_local(["sh", "-c", f"printf '# not the same file' >>{STANDBY}"])
        yield lab


def efi_boot(lab: Lab, *words: str) -> tuple[EfiFacts, str]:
    return parse_said(lab.ssh_local(["sh", "-s", "--", *words], stdin=script("any/efi-boot.sh")))


def restarted(lab: Lab) -> EfiFacts:
    """Switch the machine off and on, and return the firmware's entries then."""
    lab.ssh_local(["sync"])
    lab.power_cycle()

    def probe() -> EfiFacts:
        try:
            return efi_boot(lab, "show", "/")[0]
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotYet(str(error)) from error

    # Over the local port: which entry was started does not depend on the tailnet.
    return wait_for("the machine to start again", probe, deadline_s=600)


def names(facts: EfiFacts) -> list[str]:
    return [entry.name for entry in facts.in_order]


def test_standby_stays_until_the_new_system_is_proved(machine: Lab) -> None:
    before, _ = efi_boot(machine, "show", "/")
    assert before.current
    _, guarded = efi_boot(machine, "keep", "/")
    assert guarded.endswith(" starts the standby")
    facts = restarted(machine)
    # Told to start the standby once, the firmware has; and it is still the first.
    assert (facts.current, facts.next) == (guarded.split()[1], "")
    assert names(facts) == ["Holdfast standby", *names(before)]

    _, kept = efi_boot(machine, "keep", "/", "next")
    new, standby = kept.split()[1], kept.split(", then ")[1].split()[0]
    assert standby == guarded.split()[1]
    facts = restarted(machine)
    assert (facts.current, facts.next, facts.order[0]) == (new, "", standby)
    # It had its one start: the next power cycle leads back.
    assert restarted(machine).current == standby

    _, kept = efi_boot(machine, "keep", "/", "next")
    assert kept.split()[1] == new
    assert restarted(machine).current == new
    settled, said = efi_boot(machine, "settle", "/", "booted")
    assert said == f"settled: {new} starts the new system"
    assert "Holdfast standby" not in [entry.name for entry in settled.entries]
    assert names(settled) == ["NixOS", *names(before)]
    facts = restarted(machine)
    assert (facts.current, names(facts)) == (new, names(settled))


def test_boot_loader_that_is_no_program_leads_to_the_standby(machine: Lab) -> None:
    machine.ssh_local(["cp", REMOVABLE, "/boot/EFI/systemd/kept"])
    _, kept = efi_boot(machine, "keep", "/", "next")
    standby = kept.split(", then ")[1].split()[0]
    machine.ssh_local(["sh", "-c", f"echo garbage >{REMOVABLE}"])
    facts = restarted(machine)
    assert (facts.current, facts.next, facts.order[0]) == (standby, "", standby)
    machine.ssh_local(["cp", "/boot/EFI/systemd/kept", REMOVABLE])
    assert efi_boot(machine, "settle", "/")[1] == f"settled: {kept.split()[1]} starts the new system"
