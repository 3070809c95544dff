"""What the boot loader of the origin starts by default: GRUB, systemd-boot, syslinux or extlinux."""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import clean, first_word, pairs, split_lines
from holdfast.facts.grub import grub_default, grub_waits
from holdfast.facts.system import parse_store_path

MAX_ENTRIES: Final = 256
LoaderName = Literal["GRUB", "systemd-boot", "extlinux", ""]


class BootEntry(Frozen):
    """An entry of a boot loader.

    Attributes:
        name: its title or ID.
        kernel: the path of its kernel, as the boot loader names it; empty if it is not known.
        missing: a file that it names and that is missing or empty: its kernel or initrd; empty if there is none.
        waits: what the boot loader waits for before it starts it; empty if it starts it by itself.

    """

    name: str
    kernel: str = ""
    missing: str = ""
    waits: str = ""


class LoaderFacts(Frozen):
    """What the boot loader starts by default.

    Attributes:
        name: the boot loader; empty if it is none that is known.
        default: the entry that it starts; None if that cannot be told.
        once: the entry that it starts the next time only; empty if there is none.
        waits: what it waits for at its menu, without end; empty if it starts its default by itself.
        selected: the entry that started the running system, if the boot loader told.
        kernel_release: from `uname -r`.
        boot_image: the kernel's path on the kernel's own command line; empty if it is not there.
        nixos_booted: store path of the NixOS that booted; empty on other systems.
        nixos_next: store path of the NixOS that its boot loader starts next.

    """

    name: LoaderName = ""
    default: BootEntry | None = None
    once: str = ""
    waits: str = ""
    selected: str = ""
    kernel_release: str = ""
    boot_image: str = ""
    nixos_booted: str = ""
    nixos_next: str = ""

    @property
    def starts_running_kernel(self) -> bool | None:
        """Whether the default is what runs; None if that cannot be told."""
        if self.default is None:
            return None
        if self.name == "systemd-boot":
            return _plain(self.default.name) == _plain(self.selected) if self.selected else None
        kernel = re.split(r"[/\\]", self.default.kernel)[-1]
        if not kernel:
            return None
        if self.kernel_release and self.kernel_release in kernel:
            return True
        image = self.boot_image.rpartition("/")[2]
        if image:
            return image == kernel
        return False if re.search(r"\d\.\d", kernel) else None


def parse_loader(said: Mapping[str, str]) -> LoaderFacts:
    """Parse what way-back.sh says of the boot loader."""
    entries = tuple(_entries(said["entries"]))[:MAX_ENTRIES]
    told = {clean(key): clean(value) for key, value in pairs(said["systemd_boot"])}
    words = dict(word.partition("=")[::2] for word in split_lines(said["command_line"]))
    nixos = {key: parse_store_path(value) for key, value in pairs(said["nixos"])}
    environment = dict(line.partition("=")[::2] for line in split_lines(said["grub_environment"]))
    name: LoaderName = ""
    default, once, waits = None, "", ""
    if "selected" in told:
        name, once = "systemd-boot", told.get("oneshot", "")
        # loader.conf(5)
        waits = "waits at its menu without end (timeout menu-force)" * (told.get("timeout") == "menu-force")
        default = _default_of_systemd_boot(entries, told)
    elif said["grub"].strip():
        name, once = "GRUB", clean(environment.get("next_entry", ""))
        waits = grub_waits(said["grub"])
        saved = environment.get("saved_entry", "")
        # Fedora's menu has its own entries besides, such as that of the firmware's settings.
        default = _default_of_bls(said["grub"], entries, saved)
        if default is None and (found := grub_default(said["grub"], saved)):
            default = BootEntry(**found)
    elif said["syslinux"].strip():
        name, default = "extlinux", _default_of_syslinux(said["syslinux"])
        waits = _syslinux_waits(said["syslinux"])
    return LoaderFacts(
        name=name,
        default=default,
        once=once,
        waits=waits or (default.waits if default else ""),
        selected=told.get("selected", ""),
        kernel_release=first_word(said["kernel_release"]),
        boot_image=clean(words.get("BOOT_IMAGE", "")),
        nixos_booted=nixos.get("booted", ""),
        nixos_next=nixos.get("next", ""),
    )


def _entries(text: str) -> Iterator[BootEntry]:
    """Parse entries of the Boot Loader Specification."""
    current: dict[str, str] = {}
    for line in split_lines(text):
        word, _, rest = line.partition(" ")
        if word == "entry":
            if current:
                yield BootEntry(**current)
            current = {"name": clean(rest)}
        elif current:
            _note(current, word, rest)
    if current:
        yield BootEntry(**current)


def _note(entry: dict[str, str], word: str, rest: str) -> None:
    """Note a line `linux here /vmlinuz-6.1`."""
    state, _, path = rest.strip().partition(" ")
    if word.lower().startswith(("linux", "kernel")):
        entry.setdefault("kernel", clean(path))
    elif not word.lower().startswith("initrd"):
        return
    if state == "missing":
        entry.setdefault("missing", clean(path))


def _plain(name: str) -> str:
    """Return the name of an entry without systemd-boot's count of attempts (`x+2-1.conf`)."""
    return re.sub(r"\+\d+(-\d+)?(?=\.(conf|efi)$)", "", name).lower()


def _default_of_systemd_boot(entries: tuple[BootEntry, ...], told: Mapping[str, str]) -> BootEntry | None:
    wanted = told.get("preferred") or told.get("default") or ""
    if wanted == "@saved":
        wanted = told["selected"]
    if not wanted:
        return entries[0] if len(entries) == 1 else None
    pattern = wanted.lower()
    found = [one for one in entries if fnmatch.fnmatchcase(_plain(one.name), pattern)] or [
        one for one in entries if _plain(one.name).rpartition(".")[0] == pattern
    ]
    return max(found, key=lambda one: _version(one.name), default=None)


def _default_of_bls(grub: str, entries: tuple[BootEntry, ...], saved: str) -> BootEntry | None:
    """Return what Fedora's GRUB starts: the saved entry, else the newest."""
    if "blscfg" not in grub or not entries:
        return None
    for one in entries:
        if saved and one.name.removesuffix(".conf") == saved.removesuffix(".conf"):
            return one
    in_order = sorted(entries, key=lambda one: _version(one.name), reverse=True)
    chosen = int(saved) if re.fullmatch(r"\d{1,3}", saved, re.ASCII) else 0
    return in_order[chosen] if chosen < len(in_order) else in_order[0]


def _version(name: str) -> list[tuple[int, int, str]]:
    """Return what sorts names as RPM sorts versions: numbers as numbers, and above letters."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"[0-9]{1,18}|[a-z]+", name)]


def _syslinux_waits(text: str) -> str:
    """Return what syslinux or extlinux waits for: a prompt without a timeout."""
    told = {key.upper(): value.strip() for key, value in pairs(text)}
    asks = told.get("PROMPT", "0") != "0" and told.get("TIMEOUT", "0") == "0"
    return "waits at its prompt without end (PROMPT without TIMEOUT)" * asks


def _default_of_syslinux(text: str) -> BootEntry | None:
    default, marked = "", ""
    found: dict[str, dict[str, str]] = {}
    label = ""
    for line in split_lines(text):
        word, _, rest = line.partition(" ")
        match word.upper(), rest.strip():
            case "DEFAULT", name if not default:
                default = name
            case "LABEL", name:
                label = name
                found[label] = {"name": clean(name)}
            case "MENU", again if again.upper().startswith("DEFAULT"):
                marked = label
            case _ if label:
                _note(found[label], word, rest)
    chosen = found.get(marked) or found.get(default) or next(iter(found.values()), None)
    return BootEntry(**chosen) if chosen else None
