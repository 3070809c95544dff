"""How a user names a kexec image or a flake: a path, a flake reference, or a URL with a checksum."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, ValidationInfo

_CHECKSUM: Final = re.compile(r"(?:sha\d+|md5|blake3)[=:-]")
_HEX: Final = re.compile(r"sha256[=:]([0-9a-fA-F]{64})")
_SRI: Final = re.compile(r"sha256-[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class Download:
    """A file at a URL whose checksum is known beforehand.

    Attributes:
        url: http or https, without the fragment.
        hash: SHA-256 of the file as Nix writes it: `sha256-` and base64 (SRI).

    """

    url: str
    hash: str

    @property
    def name(self) -> str:
        """Its name in the Nix store, from the last part of the URL (allowed characters: nix's libstore/path.cc)."""
        last = PurePosixPath(urlsplit(self.url).path).name
        return re.sub(r"[^A-Za-z0-9+._?=-]", "-", last).lstrip(".")[-100:] or "kexec-image"


def is_path(reference: str) -> bool:
    """Return whether the reference of an image is a path; False if it has a `#` or a scheme."""
    return "#" not in reference and not re.match(r"[a-z][a-z0-9+.-]*:", reference)


def parse_download(reference: str) -> Download | None:
    """Parse `https://…#sha256=HEX`, or `https://…#sha256-BASE64`; None for a path or a flake reference.

    A flake reference may be a URL too: `https://…/x.tar.gz#ATTRIBUTE`.

    Raises:
        ValueError: it is a URL without a checksum, or its checksum has another form.

    """
    url, _, fragment = reference.partition("#")
    if not re.match(r"https?://", url) or (fragment and not _CHECKSUM.match(fragment)):
        return None
    if not fragment:
        raise ValueError(f"a URL needs a checksum: run `nix store prefetch-file {url}` and append # and its hash to it")
    if match := _HEX.fullmatch(fragment):
        return Download(url, f"sha256-{base64.b64encode(bytes.fromhex(match[1])).decode()}")
    if _SRI.fullmatch(fragment):
        return Download(url, fragment)
    raise ValueError("its checksum must be #sha256= with 64 hexadecimal digits, or #sha256- as Nix prints it")


def resolve_reference(reference: str, folder: Path) -> str:
    """Return a flake reference or a path; a relative path in it now starts at the folder.

    Relative are `./result`, `.#kexec`, `path:../flake` and `git+file:.`; not `github:…` and names in the registry.

    Raises:
        ValueError: the path is invalid, or the name of a flake in the registry is also that of a flake's folder here.

    """
    scheme = next((prefix for prefix in ("path:", "git+file:") if reference.startswith(prefix)), "")
    path, hash_, attribute = reference.removeprefix(scheme).partition("#")
    if not re.match(r"(\.{1,2}|~)(/|$)", path):
        if not scheme and re.fullmatch(r"[A-Za-z][\w./-]*", path) and (_resolved(folder, path) / "flake.nix").is_file():
            raise ValueError(
                f"it is looked up in Nix's registry, and there is a folder {path} here: did you mean ./{path}?"
                f" If not, write flake:{path}"
            )
        return reference
    return f"{scheme}{_resolved(folder, path)}{hash_}{attribute}"


def resolve_image(reference: str, folder: Path) -> str:
    """Return the reference of an image; a relative path in it, also `result`, now starts at the folder.

    Raises:
        ValueError: the path is invalid.

    """
    if is_path(reference):
        return str(_resolved(folder, reference))
    return resolve_reference(reference, folder)


def at_home(path: Path) -> Path:
    """Return a path with its `~` expanded.

    Raises:
        ValueError: it begins with the name of an unknown user.

    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("its ~ names no user of this machine") from error


def _resolved(folder: Path, path: str) -> Path:
    try:
        return (folder / at_home(Path(path))).resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError("its links form a circle, or it is too long") from error


def _from_inventory(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("folder", Path())
    if "\0" in str(path):
        raise ValueError("a path cannot contain a NUL")
    return (base / at_home(path)).absolute()


InventoryPath = Annotated[Path, AfterValidator(_from_inventory)]
"""A path; a relative one starts at the inventory's folder."""
