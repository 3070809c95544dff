"""Makes docs/standby-fit.md: which layouts get a standby. `python -m tests.unit.standby_fit_page` writes it anew."""

from pathlib import Path
from typing import Final, NamedTuple

from holdfast.base.size import MIB
from holdfast.facts.system import Firmware
from holdfast.plan.layout import Layout, Mount
from holdfast.plan.way_back.fit import MARGIN_BYTES, MAX_STARTER_BYTES, MAX_STARTER_UNPACKED_BYTES, Fit, Parts, fit
from tests.unit.disko_layouts import LAYOUTS, is_example, layout

PAGE: Final = Path(__file__).parents[2] / "docs" / "standby-fit.md"
# Megabytes: nixos-images' own figures for the variants without and with firmware (nix-community/nixos-images, PR#94).
IMAGES_MB: Final = (300, 700)
# On less no NixOS fits: disko's examples have such roots because they are also its tests.
SMALLEST_ROOT_BYTES: Final = 2048 * MIB
# Of the boot partitions that get no standby, with `state-on-boot` and the smaller image.
LARGEST_WITHOUT_MIB: Final = 127
_FIRMWARES: Final[tuple[Firmware, ...]] = ("efi", "bios")
_HEAD: Final = f"""# Which layouts get a standby and a trial

[The standby](decisions/0007-a-standby-installer-on-the-new-disk.md) needs room on the boot partition, and
[the trial](decisions/0008-the-first-start-is-a-trial.md) needs the standby. `just plan` says under *The way back*
whether a machine gets both, before anything is changed. This page shows what it says of every layout in the `example/`
folder of [disko](https://github.com/nix-community/disko) that has a root, and of some others. A test makes it from
[what the evaluation answers](../tests/unit/disko/layouts) about them; so it is what this version says.

- **small**: only the starter, with its kernel, is on the boot partition: at most {MAX_STARTER_BYTES // MIB} MiB,
  or {MAX_STARTER_UNPACKED_BYTES // MIB} where kernels are not packed (all but x86). The installer and the hand-over are
  on the new root. It takes no word in `allow`.
- **whole**: the installer and the hand-over are on the boot partition, too. It is so for an encrypted root, which the
  starter cannot open, and for a root on a file system that it does not know. For an encrypted root it takes the word
  `state-on-boot` in `allow`: until the new system has its boot loader, the boot partition then holds the node's state,
  not encrypted.

Beside either, {MARGIN_BYTES // MIB} MiB stay free for the new system's own kernel and initrd. The table counts with
images of {IMAGES_MB[0]} MB (virtual machines) and {IMAGES_MB[1]} MB (with firmware), and a starter of the most that it
may have. The plan counts with the image's own sizes, if the image is there when the plan is made.
"""
_FOOT: Final = f"""
¹ The example has a root of less than {SMALLEST_ROOT_BYTES // MIB} MiB, on which no NixOS fits. The table shows the same
layout with a root that is large enough.
"""


class Answer(NamedTuple):
    """What a layout gets with one firmware: by the image's size, without and with `state-on-boot`."""

    plain: tuple[Fit, ...]
    with_word: tuple[Fit, ...]

    @property
    def in_words(self) -> str:
        """The table's cell."""
        first = self.plain[0]
        if not self.plain[-1].why:
            return f"yes, {first.form}"
        if not first.why:
            return f"yes, {first.form}; {self._larger(self.plain)}"
        if not first.encrypted:
            return f"no: {first.why}{_would_do(first)}{f'. {first.helps}'.rstrip(' .') if first.helps else ''}"
        if self.with_word[0].why:
            return f"no: {first.why}; with `state-on-boot`{_would_do(self.with_word[0], ' ')}"
        said = f"with `state-on-boot`, {self.with_word[0].form}"
        return f"{said}; {self._larger(self.with_word)}" if self.with_word[-1].why else said

    @staticmethod
    def _larger(answers: tuple[Fit, ...]) -> str:
        return f"not with {IMAGES_MB[-1]} MB{_would_do(answers[-1])}"


def _would_do(answer: Fit, start: str = ". ") -> str:
    return f"{start}{answer.would_do_bytes // MIB} MiB would do" if answer.would_do_bytes else ""


def answer(name: str, firmware: Firmware) -> Answer:
    """Return what the plan says of a recorded layout."""
    made = grown(layout(name))

    def asked(*, word: bool) -> tuple[Fit, ...]:
        parts = (Parts(installer_bytes=megabytes * 10**6) for megabytes in IMAGES_MB)
        return tuple(fit(made, firmware, "x86_64", each, state_on_boot=word) for each in parts)

    return Answer(asked(word=False), asked(word=True))


def grown(made: Layout) -> Layout:
    """Return the layout with a root that is large enough for a NixOS: it takes what is left."""
    return Layout(mounts=tuple(_grown(mount) if _is_toy(mount) else mount for mount in made.mounts))


def _is_toy(mount: Mount) -> bool:
    size = mount.volume.size_bytes
    return mount.place == "/" and size is not None and size < SMALLEST_ROOT_BYTES


def _grown(mount: Mount) -> Mount:
    return mount.model_copy(update={"volume": mount.volume.model_copy(update={"size": "100%", "end": ""})})


def counts() -> dict[str, int]:
    """Return how many of disko's examples that can start by UEFI get a standby, by what it takes."""
    examples = [answer(name, "efi") for name in LAYOUTS if is_example(name)]
    examples = [each for each in examples if each.plain[0].boot]
    return {
        "examples": len(examples),
        "plain_small_image": sum(bool(each.plain[0].form) for each in examples),
        "plain_large_image": sum(bool(each.plain[-1].form) for each in examples),
        "word_small_image": sum(bool(each.with_word[0].form) for each in examples),
        "word_large_image": sum(bool(each.with_word[-1].form) for each in examples),
    }


def _summary() -> list[str]:
    found = counts()
    small, large = IMAGES_MB
    return [
        f"Of the {found['examples']} examples of disko with a boot partition for UEFI:",
        "",
        "| image | standby and trial without any word | with `state-on-boot`, too |",
        "|---|---|---|",
        f"| {small} MB | {found['plain_small_image']} | {found['word_small_image']} |",
        f"| {large} MB | {found['plain_large_image']} | {found['word_large_image']} |",
        "",
        f"With an image of {small} MB, those that get none have a boot partition of {LARGEST_WITHOUT_MIB} MiB or less.",
        "",
    ]


def _row(name: str) -> str:
    made = layout(name)
    root = made.at("/")
    assert root
    nix = made.at("/nix")
    shown = _in_words(root) + (f", /nix {_in_words(nix)}" if root.type == "tmpfs" and nix else "")
    first = answer(name, "efi").plain[0].boot or answer(name, "bios").plain[0].boot
    mark = " ¹" if _is_toy(root) else ""
    efi, bios = (answer(name, firmware).in_words for firmware in _FIRMWARES)
    cells = [f"{name}{mark}", first, shown, efi, "the same" if bios == efi else bios]
    return f"| {' | '.join(cells)} |"


def _in_words(mount: Mount) -> str:
    on = [layer for layer in reversed(mount.layers) if layer != "partition"]
    locked = ["encrypted"] if mount.encrypted and "luks" not in mount.layers else []
    return " on ".join([" ".join([*locked, mount.type]), *on])


def page() -> str:
    """Return the page."""
    head = ["| layout | boot partition | root | by UEFI | by BIOS |", "|---|---|---|---|---|"]
    examples = [name for name in LAYOUTS if is_example(name)]
    others = [name for name in LAYOUTS if not is_example(name)]
    return "\n".join(
        [
            _HEAD,
            *_summary(),
            "## The examples of disko",
            "",
            *head,
            *map(_row, examples),
            _FOOT,
            "## Other layouts",
            "",
            *head,
            *map(_row, others),
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
