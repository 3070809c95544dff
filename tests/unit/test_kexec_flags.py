"""The flags for kexec that the inventory may name."""

from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.inventory.kexec_flags import check_kexec_flag
from holdfast.inventory.loading import load_inventory


@pytest.mark.parametrize(
    "flag",
    [
        "--kexec-file-syscall",
        "--kexec-syscall-auto",
        "--mem-max=0x40000000",
        "--mem-min=1048576",
        "--no-sync",
        "--serial=0x3f8",
        "--serial=ttyS0",
        "--serial-baud=115200",
        "--dtb=/boot/dtbs/6.1.0/board-v1.dtb",
    ],
)
def test_known_flags(flag: str) -> None:
    assert check_kexec_flag(flag) == flag


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--initrd=/x", "--initrd would break the hand-over"),
        ("--command-line=init=/bin/sh", "would break the hand-over"),
        ("--append=quiet", "would break the hand-over"),
        ("--reuse-cmdline", "would break the hand-over"),
        ("--load", "would break the hand-over"),
        ("--exec", "would break the hand-over"),
        ("--unload", "would break the hand-over"),
        ("--force", "would break the hand-over"),
        # kexec takes a beginning for the whole, and short names.
        ("--ini=/x", "is not among the flags"),
        ("--unl", "is not among the flags"),
        ("--kexec-file", "is not among the flags"),
        ("-u", "is not among the flags"),
        ("-e", "is not among the flags"),
        ("--type=elf", "is not among the flags"),
        ("", "is not among the flags"),
        ("0x40000000", "is not among the flags"),
        ("--no-sync --unload", "is not among the flags"),
        ("--no-sync\n", "is not among the flags"),
        ("--no-sync=1", "takes no value"),
        ("--no-sync=", "takes no value"),
        ("--mem-max", "needs a value in the same word, as --mem-max=0x40000000"),
        ("--mem-max=1 --unload", "needs a value"),
        ("--mem-max=1\n", "needs a value"),
        ("--dtb=x.dtb", "needs a value in the same word, as --dtb=/boot/board.dtb"),
        ("--dtb=/$(id)", "needs a value"),
        ("--serial=/dev/ttyS0;id", "needs a value"),
    ],
)
def test_refused_flags(flag: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_kexec_flag(flag)


def test_inventory(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text('[cottage]\nkexec_extra_flags = ["--no-sync", "--mem-max=0x40000000"]\n')
    assert load_inventory(path).host("cottage").kexec_extra_flags == ("--no-sync", "--mem-max=0x40000000")
    path.write_text('[cottage]\nkexec_extra_flags = ["--no-sync", "--initrd=/x"]\n')
    with pytest.raises(ConfigError, match=r"\[cottage\] kexec_extra_flags.1 is '--initrd=/x': .* break the hand-over"):
        load_inventory(path)
