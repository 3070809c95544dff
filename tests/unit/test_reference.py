"""How an image, or a flake, may be named."""

import base64
from pathlib import Path

import pytest

from holdfast.inventory.reference import Download, is_path, parse_download, resolve_image, resolve_reference

HEX = "c5" * 32
SRI = f"sha256-{base64.b64encode(bytes.fromhex(HEX)).decode()}"


@pytest.mark.parametrize(
    ("reference", "path", "resolved"),
    [
        (".", True, "/base"),
        ("./result", True, "/base/result"),
        ("..#kexec", False, "/#kexec"),
        ("path:./x", False, "path:/base/x"),
        ("git+file:.#y", False, "git+file:/base#y"),
        ("/a/b.tar.gz", True, "/a/b.tar.gz"),
        ("github:o/r#x", False, "github:o/r#x"),
        ("nixpkgs#hello", False, "nixpkgs#hello"),
        (f"https://x.example/i.tar#{SRI}", False, f"https://x.example/i.tar#{SRI}"),
    ],
)
def test_references(reference: str, path: bool, resolved: str) -> None:
    assert is_path(reference) is path
    assert resolve_reference(reference, Path("/base")) == resolved
    assert resolve_image(reference, Path("/base")) == resolved


@pytest.mark.parametrize("reference", ["myflake", "myflake#kexec", "hosts/cottage"])
def test_folder_that_would_be_looked_up_in_the_registry(tmp_path: Path, reference: str) -> None:
    assert resolve_reference(reference, tmp_path) == reference
    path = reference.partition("#")[0]
    (tmp_path / path).mkdir(parents=True)
    assert resolve_reference(reference, tmp_path) == reference
    (tmp_path / path / "flake.nix").touch()
    with pytest.raises(ValueError, match=rf"did you mean \./{path}\?"):
        resolve_reference(reference, tmp_path)
    assert resolve_reference(f"flake:{reference}", tmp_path) == f"flake:{reference}"


def test_an_image_without_a_dot_is_a_path_and_a_flake_is_a_name() -> None:
    assert resolve_image("result", Path("/base")) == "/base/result"
    assert resolve_reference("nixpkgs", Path("/base")) == "nixpkgs"


@pytest.mark.parametrize("checksum", [f"sha256={HEX}", f"sha256={HEX.upper()}", f"sha256:{HEX}", SRI])
def test_url_with_its_checksum(checksum: str) -> None:
    assert parse_download(f"https://x.example/a/i.tar.gz#{checksum}") == Download("https://x.example/a/i.tar.gz", SRI)


@pytest.mark.parametrize(
    "reference",
    ["/a/b.tar", "./result", ".#kexec", "github:o/r#x", "https://x.example/flake.tar.gz#kexec", "path:/x#sha256-image"],
)
def test_what_is_no_url_of_an_image(reference: str) -> None:
    assert parse_download(reference) is None


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("https://x.example/i.tar", "nix store prefetch-file https://x.example/i.tar"),
        ("http://x.example/i.tar#", "needs a checksum"),
        ("https://x.example/i.tar#sha256=abc", "64 hexadecimal digits"),
        ("https://x.example/i.tar#sha256-abc=", "as Nix prints it"),
        (f"https://x.example/i.tar#sha256={HEX}00", "64 hexadecimal digits"),
        ("https://x.example/i.tar#sha512-abc", "#sha256="),
        ("https://x.example/i.tar#md5=abc", "#sha256="),
    ],
)
def test_url_that_promises_nothing(reference: str, said: str) -> None:
    with pytest.raises(ValueError, match="checksum") as error:
        parse_download(reference)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.example/a/kexec.tar.gz", "kexec.tar.gz"),
        ("https://x.example/a/kexec.tar.gz?token=1&x=y", "kexec.tar.gz"),
        ("https://x.example/a%20b/.k e.tar", "k-e.tar"),
        ("https://x.example/", "kexec-image"),
    ],
)
def test_name_in_the_store(url: str, name: str) -> None:
    assert Download(url, SRI).name == name
