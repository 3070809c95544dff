"""What has changed since the origin booted, and whether the next boot starts what runs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from holdfast.facts.boot import BootFacts, BootFile
from holdfast.facts.efi import EfiFacts
from holdfast.inventory.host import Host
from holdfast.plan.way_back.row import Verdict, WayBackRow

# A boot writes some of these files itself, on new machines even network configurations (cloud-init), and a machine
# without a clock writes them with the time of before. What is younger was changed later.
BOOT_WRITES_S: Final = 900
# A clock before this version of Holdfast is wrong: nothing can be compared with it.
_YEAR_2020: Final = 1577836800
_LATEST: Final = 100_000_000_000
_SHOWN: Final = 6
_START_ALONE: Final = {
    "GRUB": "Set GRUB_TIMEOUT in /etc/default/grub, and give the entries `--unrestricted` if there is a password; then"
    " make its configuration again.",
    "systemd-boot": "Set a timeout in seconds: `bootctl set-timeout 5`.",
    "extlinux": "Set TIMEOUT in its configuration.",
}


def day(seconds: int) -> str:
    """Return a time in seconds since 1970 as a date."""
    return f"{datetime.fromtimestamp(min(seconds, _LATEST), UTC):%Y-%m-%d}"


def boot_row(boot: BootFacts) -> Iterator[WayBackRow]:
    """Yield when the origin booted."""
    if boot.booted_at < _YEAR_2020:
        yield WayBackRow(
            subject="last boot",
            seen="its clock does not tell when it booted",
            means="nobody knows what has changed since",
            hint="Set its clock, or rehearse the origin.",
            verdict=Verdict.UNPROVED,
        )


def changed_files(boot: BootFacts) -> tuple[BootFile, ...]:
    """Return the files that decide the next boot and that this boot has not shown to work, the newest first.

    tailscaled's own have shown it when it was started after they had changed. On NixOS they all belong to a system.
    """
    loader = boot.loader
    if boot.booted_at < _YEAR_2020 or (loader.nixos_booted and loader.nixos_booted == loader.nixos_next):
        return ()
    since = {"tailscaled": max(boot.booted_at + BOOT_WRITES_S, boot.tailscaled_since)}
    changed = [file for file in boot.files if file.changed_at > since.get(file.group, boot.booted_at + BOOT_WRITES_S)]
    return tuple(sorted(changed, key=lambda file: (-file.changed_at, file.path)))


def changes_row(boot: BootFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what has changed since the boot; that nothing has if so."""
    if boot.booted_at < _YEAR_2020:
        return
    hint = "Rehearse the origin, or reboot it once while somebody can reach its console."
    loader = boot.loader
    if loader.nixos_booted and loader.nixos_next and loader.nixos_booted != loader.nixos_next:
        yield WayBackRow(
            subject="changes",
            seen=f"it booted {_short(loader.nixos_booted)} on {day(boot.booted_at)}, and its boot loader starts"
            f" {_short(loader.nixos_next)} next",
            means=f"{host.name} has never booted that system",
            hint=hint,
            verdict=Verdict.UNPROVED,
        )
        return
    changed = changed_files(boot)
    if not changed:
        yield WayBackRow(
            subject="changes",
            seen=f"it booted on {day(boot.booted_at)}, and nothing that decides a boot has changed since",
            means="the next boot is like the last one",
            verdict=Verdict.FINE,
        )
        return
    named = ", ".join(f"{file.path} ({day(file.changed_at)})" for file in changed[:_SHOWN])
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    yield WayBackRow(
        subject="changes",
        seen=f"it booted on {day(boot.booted_at)}, and since then changed: {named}{more}",
        means=f"{host.name} has never booted with that",
        hint=hint,
        verdict=Verdict.UNPROVED,
    )


def loader_rows(boot: BootFacts) -> Iterator[WayBackRow]:
    """Yield whether the boot loader starts what runs.

    Where that cannot be told there is no row: the boot loader has started what runs, and what has changed since is
    said above.
    """
    loader = boot.loader
    if loader.once:
        yield WayBackRow(
            subject="next boot",
            seen=f"{loader.name} starts {loader.once} the next time only",
            means="the next boot is not like the last one",
            hint="Run `grub-editenv - unset next_entry` there (Fedora: `grub2-editenv`)."
            if loader.name == "GRUB"
            else "Run `bootctl set-oneshot ''` there.",
            verdict=Verdict.UNPROVED,
        )
    # GRUB names the kernel on its command line. Without that, another boot loader has started what runs.
    used = loader.name != "GRUB" or bool(loader.boot_image)
    verdict = Verdict.STRANDS if used else Verdict.UNPROVED
    if loader.waits:
        yield WayBackRow(
            subject="boot loader",
            seen=f"{loader.name} {loader.waits}",
            means="the machine would wait for a person at its console",
            hint=_START_ALONE.get(loader.name, ""),
            verdict=verdict,
        )
    default = loader.default
    if default is None:
        return
    if default.missing:
        yield WayBackRow(
            subject="boot loader",
            seen=f"the default of {loader.name}, {default.name}, needs {default.missing}, which is missing or empty",
            means="the machine would stop at its boot loader",
            hint="Make its boot loader's configuration again (Debian: `update-grub`, Fedora: `grub2-mkconfig`, NixOS:"
            " `nixos-rebuild boot`), or choose another default.",
            verdict=verdict,
        )
        return
    same = loader.starts_running_kernel
    if same:
        yield WayBackRow(
            subject="boot loader",
            seen=f"the default of {loader.name} is what runs ({default.name})",
            means="the next boot starts it",
            verdict=Verdict.FINE,
        )
    elif same is False:
        kernel = f", {default.kernel}" if default.kernel else ""
        yield WayBackRow(
            subject="boot loader",
            seen=f"the default of {loader.name} is {default.name}{kernel}, and {loader.kernel_release} runs",
            means="the next boot starts something else",
            hint="Rehearse the origin, or reboot it once while somebody can reach its console.",
            verdict=Verdict.UNPROVED,
        )


def order_row(efi: EfiFacts) -> Iterator[WayBackRow]:
    """Yield whether the firmware first tries what it has started."""
    if efi.next:
        yield WayBackRow(
            subject="next boot",
            seen=f"the firmware starts its entry {efi.next} the next time only (BootNext)",
            means="the next boot is not like the last one",
            hint="Run `efibootmgr --delete-bootnext` there.",
            verdict=Verdict.UNPROVED,
        )
    if efi.current and efi.order and efi.current != efi.order[0]:
        yield WayBackRow(
            subject="boot order",
            seen=f"the firmware tries its entry {efi.order[0]} first, and has started {efi.current}",
            means="a network or a stick that answers the next time would be started instead",
            hint=f"Put {efi.current} first: `efibootmgr --bootorder {','.join(_first(efi))}`.",
            verdict=Verdict.UNPROVED,
        )


def _first(efi: EfiFacts) -> tuple[str, ...]:
    return (efi.current, *(entry for entry in efi.order if entry != efi.current))


def _short(path: str) -> str:
    return path.removeprefix("/nix/store/")
