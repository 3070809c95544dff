"""Whether a power cut after formatting leads back to the installer, and whether the new system is tried first."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.size import MIB
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Allowance, Host, Way
from holdfast.plan.foreign import goes_on_from_foreign
from holdfast.plan.image import Image
from holdfast.plan.layout import Layout
from holdfast.plan.way_back.fit import Fit, Parts, fit, most_starter_bytes
from holdfast.plan.way_back.row import Verdict, WayBackRow

STATE_ON_BOOT: Final[Allowance] = "state-on-boot"
_PAGE: Final = "docs/standby-fit.md shows what fits where."
_NO_WAY: Final = (
    "if the power fails between formatting and the new boot loader, the machine boots nothing, and somebody has to go"
    " there"
)


def standby_rows(layout: Layout | None, host: Host, facts: Facts, image: Image | None) -> Iterator[WayBackRow]:
    """Yield whether the new disk gets a standby, and the new system a trial. The install depends on neither.

    Args:
        layout: where disko mounts what; None if that is not known.
        host: the host.
        facts: what the target answered, in whichever stage it is.
        image: the kexec image; None if it is not built yet.

    """
    found = _decided_by_host(host, facts) or fit(
        layout,
        facts.firmware,
        facts.arch,
        parts_of(image, facts.arch),
        state_on_boot=STATE_ON_BOOT in host.allow,
    )
    yield _standby(found)
    yield _trial(found)


def parts_of(image: Image | None, arch: str) -> Parts:
    """Return the sizes of what a standby of this image consists of; at most, of one that is not built yet."""
    if image is None:
        return Parts(starter_bytes=most_starter_bytes(arch))
    return Parts(
        starter_bytes=image.kernel_bytes + image.starter_bytes if image.starter_bytes else None,
        installer_bytes=image.kernel_bytes + image.initrd_bytes,
    )


def _decided_by_host(host: Host, facts: Facts) -> Fit | None:
    if goes_on_from_foreign(host, facts):
        return Fit(why="the installer that runs is not Holdfast's")
    if not host.standby:
        return Fit(why="the inventory says `standby = false`")
    if host.way is Way.STANDARD:
        return Fit(why="the installer of the standard way is not on the tailnet")
    if facts.kexec.secure_boot:
        return Fit(why="Secure Boot is on, and the boot loader of a standby is not signed")
    return None


def _standby(found: Fit) -> WayBackRow:
    if found.form and found.doubt:
        return WayBackRow(
            subject="standby",
            seen=f"{found.boot}: it fits, but {found.doubt}",
            means=f"some firmwares do not start it; then, {_NO_WAY}",
            hint='Set `type = "EF00"` on that partition.',
            verdict=Verdict.UNPROVED,
        )
    if found.form:
        where = (
            "the boot partition starts the installer, which lies on the new root"
            if found.form == "small"
            else "the installer, with the node's state, lies on the boot partition"
        )
        return WayBackRow(
            subject="standby",
            seen=f"{found.boot}: {where}",
            means="if the power fails after formatting, the machine starts the installer and is on the tailnet again",
            verdict=Verdict.FINE,
        )
    if found.unknown:
        return WayBackRow(
            subject="standby",
            seen=f"unknown: {found.unknown}",
            means=f"only the install itself will show whether there is one; without it, {_NO_WAY}",
            hint=_PAGE,
            verdict=Verdict.UNPROVED,
        )
    return WayBackRow(
        subject="standby",
        seen=f"none: {found.why}",
        means=_NO_WAY,
        hint=_hint(found),
        verdict=Verdict.UNPROVED,
    )


def _hint(found: Fit) -> str:
    if found.encrypted:
        larger = f" It would have to have {found.would_do_bytes // MIB} MiB." if found.would_do_bytes else ""
        return (
            f'With "{STATE_ON_BOOT}" in allow, the boot partition may hold the installer and the node\'s state, not'
            f" encrypted, until the new system has its boot loader.{larger} {_PAGE}"
        )
    if found.would_do_bytes:
        return f"A boot partition of {found.would_do_bytes // MIB} MiB would do. {_PAGE}"
    return f"{found.helps} {_PAGE}" if found.helps else ""


def _trial(found: Fit) -> WayBackRow:
    if found.form:
        return WayBackRow(
            subject="trial",
            seen="the disk boots the standby meanwhile",
            means="the new system is started once, by kexec, before its boot loader is written; if it does not come up,"
            " a reboot leads to the installer" + (", if the firmware starts that" if found.doubt else ""),
            verdict=Verdict.UNPROVED if found.doubt else Verdict.FINE,
        )
    return WayBackRow(
        subject="trial",
        seen="unknown: it needs the standby" if found.unknown else "none: there is no standby to come back to",
        means="if the new system does not come up on the tailnet after its first boot, nothing leads back",
        verdict=Verdict.UNPROVED,
    )
