"""The operator's settings: `HOLDFAST_…` variables, a `.env` file, and secrets in files of their own."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Final

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from holdfast.base.errors import ConfigError

PROJECT: Final = Path(__file__).resolve().parents[2]

_SCRIPTS: Final = PROJECT / "nix" / "scripts"
# The line with which a script takes in a part, which it finds beside it if it runs from its file.
_PART: Final = re.compile(r'^\. "\$\{0%/\*\}/\.\./parts/([a-z-]+\.sh)"$', re.MULTILINE)

_PREFIX: Final = "HOLDFAST_"
_DOTENV: Final = Path(".env")
# Variables of the lab, of the tests and of scripts on the target: they are no settings.
_OTHERS: Final = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        *("LAB", "LAB_CACHE", "LAB_CORES", "LAB_FAIL_COPY", "VENV"),
        *("CARRY_OVER", "DISKO", "NIXOS_IMAGES", "NIXPKGS", "ROOT"),
    )
)

UserPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


def _state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "holdfast"


class Settings(BaseSettings):
    """Settings that are the same for every host. Each field is a variable, `HOLDFAST_<FIELD>`; lists are JSON."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=_DOTENV, env_ignore_empty=True, extra="ignore", frozen=True
    )

    state_dir: UserPath = Field(
        default_factory=_state_dir,
        description="Folder of the vault, the pinned host keys and the runs' journals",
    )
    inventory: UserPath = Field(
        default=PROJECT / "deployments" / "hosts.toml", description="File that describes the hosts"
    )
    ssh_config: UserPath | None = Field(
        default=None,
        description="An OpenSSH client config to use alone (`ssh -F`); by default ssh's own: ~/.ssh/config and"
        " /etc/ssh/ssh_config",
    )
    sudo_password_file: UserPath | None = Field(
        default=None, description="File with the password for sudo on the targets; none if sudo asks for none"
    )
    tailscale: tuple[str, ...] = Field(
        default=("tailscale",), min_length=1, description="The operator's `tailscale`, as a list of arguments"
    )
    nix: tuple[str, ...] = Field(
        default=("nix",),
        min_length=1,
        description="The operator's `nix` (2.18 or newer), as a list of arguments",
    )
    standard_image: str = Field(
        default="github:nix-community/nixos-images#kexec-installer-nixos-stable-noninteractive",
        description="Kexec image of the standard way: a tarball, a folder that holds one, a flake's output, or a URL"
        " with `#sha256=HEX`",
    )
    age_recipient: str | None = Field(
        default=None,
        pattern=r"^age1[0-9a-z]{10,100}$",
        description="age public key that state archives in the vault are encrypted to; none leaves them plain (0600)",
    )
    age_identity_file: UserPath | None = Field(
        default=None,
        description="File with the age identity (AGE-SECRET-KEY-…) that opens what is encrypted to age_recipient;"
        " the standard way needs it to give the state back",
    )
    runs_keep: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Runs whose folder is kept: journal, report, and what protects a system from Nix's garbage"
        " collection (number)",
    )
    vault_keep: int = Field(default=5, ge=1, le=1000, description="State archives to keep for each host (number)")
    late_s: float = Field(
        default=900,
        gt=0,
        le=7 * 86400,
        allow_inf_nan=False,
        description="How long after it was due a run may still begin (seconds); a later one ends at once",
    )

    @property
    def vault_dir(self) -> Path:
        """Folder of the state archives."""
        return self.state_dir / "vault"

    @property
    def pins(self) -> Path:
        """Holdfast's own known_hosts file."""
        return self.state_dir / "known_hosts"

    @property
    def runs_dir(self) -> Path:
        """Folder of the runs, with a folder for each: journal, report, lock, evaluation, garbage collection roots."""
        return self.state_dir / "runs"


def settings() -> Settings:
    """Read the settings of this process.

    Raises:
        ConfigError: a variable has an invalid value, or a name that no setting has.

    """
    _require_known_names()
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"HOLDFAST_{'_'.join(str(part) for part in first['loc'][:1])}".upper()
        raise ConfigError(
            f"{name} is not valid: {plain(first)}.",
            hint=f"It means: {_described(str(first['loc'][0]))}. Correct it in the environment or in .env.",
        ) from None
    except ValueError as error:  # pydantic-settings' SettingsError: a list that is not valid JSON
        field = re.search(r'field "(\w+)"', str(error))
        name = f"HOLDFAST_{field[1]}".upper() if field else "A HOLDFAST_ setting"
        raise ConfigError(
            f"{name} is not a list in JSON.", hint='Write it as ["nix", "--offline"], in the environment or in .env.'
        ) from None


def _require_known_names() -> None:
    """Refuse a misspelt variable: without its value, another inventory or vault would be used in silence."""
    settings_of_all = [f"{_PREFIX}{field}".upper() for field in Settings.model_fields]
    in_file = dotenv_values(_DOTENV) if _DOTENV.is_file() else {}
    for where, names in (("the environment", os.environ), (str(_DOTENV.absolute()), in_file)):
        for name in names:
            upper = name.upper()
            if not upper.startswith(_PREFIX) or upper in _OTHERS or upper in settings_of_all:
                continue
            close = difflib.get_close_matches(upper, settings_of_all, n=1, cutoff=0.75)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"{name[:80]} in {where} is no setting.{meant}",
                hint="Correct its name, or remove it. docs/reference.md has all settings.",
            )


def plain(error: ErrorDetails) -> str:
    """Return what pydantic says of a wrong value, without its own words for types and patterns."""
    if error["type"] == "string_pattern_mismatch":
        return "it does not have the right form"
    if error["type"] == "missing":
        return "it is missing"
    if error["type"] == "model_type":
        return "it should be a table"
    return error["msg"].removeprefix("Value error, ").replace("Input should", "it should").replace("tuple", "list")


def _described(field: str) -> str:
    info = Settings.model_fields.get(field)
    return (info.description or field) if info else field


def script(name: str) -> str:
    """Return the text of a script that runs on the target, with its parts in their places: it travels alone.

    Args:
        name: its file below nix/scripts, as `any/facts.sh`.

    """
    text = (_SCRIPTS / name).read_text(encoding="utf-8")
    return _PART.sub(lambda part: script(f"parts/{part[1]}").rstrip("\n"), text)
