"""Kexec images: what is one, and what is not."""

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.base.settings import script
from holdfast.plan.image import MEMBERS, inspect_image, kernel_arch


def kernel(arch: str = "x86_64") -> bytes:
    header = bytearray(0x1000)
    if arch in ("x86_64", "i686"):
        header[0x202:0x206] = b"HdrS"
        struct.pack_into("<H", header, 0x236, 0x7F if arch == "x86_64" else 0x7E)
    elif arch == "aarch64":
        header[0x38:0x3C] = b"ARM\x64"
    elif arch == "riscv64":
        header[0x38:0x3C] = b"RSC\x05"
    return bytes(header)


def write(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return path


def whole(**changed: bytes) -> dict[str, bytes]:
    return {name: changed.get(name.removeprefix("kexec/"), b"x" * 100) for name in MEMBERS} | {
        "kexec/bzImage": changed.get("bzImage", kernel())
    }


@pytest.mark.parametrize("arch", ["x86_64", "i686", "aarch64", "riscv64"])
def test_architecture_is_the_kernels(tmp_path: Path, arch: str) -> None:
    seen = inspect_image(write(tmp_path / "i.tar.gz", whole(bzImage=kernel(arch))))
    assert seen.arch == arch


@pytest.mark.parametrize(("name", "mode"), [("i.tar.gz", "w:gz"), ("i.tar.xz", "w:xz"), ("i.tar", "w")])
def test_image(tmp_path: Path, name: str, mode: str) -> None:
    path = write(tmp_path / name, whole(initrd=b"i" * 5000), mode)
    seen = inspect_image(path)
    assert (seen.path, seen.initrd_bytes, seen.kernel_bytes) == (path, 5000, 0x1000)
    assert seen.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen.size_bytes == path.stat().st_size
    assert seen.needed_disk_bytes > seen.size_bytes + 5000


def test_result_that_is_a_link_to_an_uncompressed_tar(tmp_path: Path) -> None:
    path = write(tmp_path / "holdfast-kexec-installer-x86_64-linux.tar", whole(), "w")
    (tmp_path / "result").symlink_to(path)
    assert inspect_image(tmp_path / "result").path == path


def test_folder_that_holds_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    path = write(store / "x.tar.gz", {f"./{name}": content for name, content in whole().items()})
    (tmp_path / "result").symlink_to(store)
    assert inspect_image(tmp_path / "result").path == path
    write(store / "y.tar", whole(), "w")
    with pytest.raises(ConfigError, match="holds 2 tarballs"):
        inspect_image(store)


@pytest.mark.parametrize("lacking", MEMBERS)
def test_part_is_missing(tmp_path: Path, lacking: str) -> None:
    files = whole()
    del files[lacking]
    with pytest.raises(ConfigError, match=f"not a kexec image: it has no {lacking}"):
        inspect_image(write(tmp_path / "i.tar.gz", files))


def test_no_image(tmp_path: Path) -> None:
    for name, content in (("text", b"no tarball"), ("empty", b""), ("gzip", gzip.compress(b"x" * 9999))):
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name}.tar.gz is not a kexec image"):
            inspect_image(path)
    with pytest.raises(ConfigError, match=r"there is no kexec image .*absent"):
        inspect_image(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="holds no tarballs"):
        inspect_image(tmp_path / "folder")


def test_cut_off_image(tmp_path: Path) -> None:
    path = write(tmp_path / "i.tar.gz", whole(initrd=bytes(range(256)) * 400))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="not a kexec image"):
        inspect_image(path)


def test_kernel_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bzImage is not a known kernel"):
        inspect_image(write(tmp_path / "i.tar.gz", whole(bzImage=b"#!/bin/sh\n")))
    assert kernel_arch(b"") == ""
    assert kernel_arch(kernel()[:0x230]) == ""


def test_what_kexec_run_takes_is_read_from_it(tmp_path: Path) -> None:
    ours = script("origin/kexec-run.sh").encode()
    assert inspect_image(write(tmp_path / "ours.tar", whole(run=ours), "w")).takes_secrets
    # What it does with the flag counts, not that it is named.
    older = ours.replace(b"\t--secrets) ", b"\t# ")
    assert older != ours
    assert not inspect_image(write(tmp_path / "older.tar", whole(run=older), "w")).takes_secrets
    assert not inspect_image(write(tmp_path / "other.tar", whole(), "w")).takes_secrets


def test_whether_kexec_run_hands_over_what_a_standby_needs(tmp_path: Path) -> None:
    ours = script("origin/kexec-run.sh").encode()
    assert inspect_image(write(tmp_path / "ours.tar", whole(run=ours), "w")).keeps_standby
    older = ours.replace(b"\t--keep-for-standby)\n", b"\t--keep-it)\n")
    assert older != ours
    assert not inspect_image(write(tmp_path / "older.tar", whole(run=older), "w")).keeps_standby


def test_whether_kexec_run_takes_the_key_that_logs_in(tmp_path: Path) -> None:
    ours = script("origin/kexec-run.sh").encode()
    assert inspect_image(write(tmp_path / "ours.tar", whole(run=ours), "w")).takes_login
    older = ours.replace(b"\t--login-key) ", b"\t# ")
    assert older != ours
    assert not inspect_image(write(tmp_path / "older.tar", whole(run=older), "w")).takes_login
