"""Where the Prefect server is, and how to log in there: read as Prefect reads it, without `import prefect`.

That import takes a second or more, and `just install` would wait for it. tests/unit/test_prefect_settings.py compares
what is read here with Prefect's own settings. The order, the first wins: the environment, `.env`, `prefect.toml`,
`pyproject.toml`, the active profile.
"""

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values

from holdfast.base.errors import ConfigError
from holdfast.base.text import printable

# Prefect's own, in its settings/constants.py and settings/profiles.toml.
_HOME: Final = Path("~/.prefect")
_PROFILES: Final = {"local": {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}}
_CLOUD: Final = ("https://api.prefect.cloud/api", "https://app.prefect.cloud")

_Look = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class PrefectSettings:
    """The Prefect server as this machine's settings name it.

    Attributes:
        url: of its API.
        ui: the address of its UI.
        auth_string: `user:password`; goes before the key.
        key: an API key.
        headers: further headers of every request.
        verify: whether to check the server's certificate.
        certificates: a file of certificates to check it with; empty for the usual ones.

    """

    url: str = field(repr=False)
    ui: str = field(repr=False)
    auth_string: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool = True
    certificates: str = ""

    @property
    def shown(self) -> str:
        """The URL for people: without a password that it may hold."""
        return without_login(self.url)


def without_login(url: str) -> str:
    """Return a URL without user name and password, and harmless for a terminal."""
    try:
        parts = urlsplit(url)
        return printable(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))[:200]
    except ValueError:
        return "(an invalid URL)"


def is_address(url: str) -> bool:
    """Return whether it is an address that can be asked over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in url and parts.port != 0
    except ValueError:
        return False


def prefect_settings() -> PrefectSettings:
    """Read the settings. Without an address, Prefect would start a server of its own for each program.

    Raises:
        ConfigError: PREFECT_API_URL is not set, or a file of settings cannot be read.

    """
    look = _everywhere()
    url = look("API_URL")
    if not url:
        raise ConfigError(
            "PREFECT_API_URL is not set, so there is no Prefect server to ask.",
            hint="Set it to the server of `just serve`, as http://127.0.0.1:4200/api (docs/howto/install-a-host.md).",
        )
    return PrefectSettings(
        url=str(url).rstrip("/"),
        ui=str(look("UI_URL") or _ui(str(url))).rstrip("/"),
        auth_string=str(look("API_AUTH_STRING") or ""),
        key=str(look("API_KEY") or ""),
        headers=_headers(look("CLIENT_CUSTOM_HEADERS")),
        verify=str(look("API_TLS_INSECURE_SKIP_VERIFY") or "").lower() not in ("1", "true", "t", "yes", "y", "on"),
        certificates=str(look("API_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE") or ""),
    )


def require_server_address() -> str:
    """Return the address of the Prefect server.

    Raises:
        ConfigError: it is not set.

    """
    return prefect_settings().url


def _ui(api: str) -> str:
    """Return where the UI of an API is, by Prefect's rule for its own servers and for its cloud."""
    if api.startswith(_CLOUD[0]):
        api = api.replace(*_CLOUD)
    ui = api.rstrip("/").removesuffix("/api").replace("/api/", "/")
    return ui.replace("/accounts/", "/account/").replace("/workspaces/", "/workspace/")


def _headers(value: object) -> Mapping[str, str]:
    try:
        headers = json.loads(value) if isinstance(value, str) and value else value or {}
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        raise ConfigError("PREFECT_CLIENT_CUSTOM_HEADERS is not a JSON object.", hint="Correct or remove it.")
    return {str(name): str(text) for name, text in headers.items()}


def _everywhere() -> _Look:
    """Return a function that looks a setting up by its name without PREFECT_."""
    # Prefect takes names in any case; pydantic-settings does so in `.env`, too.
    environ = {name.upper(): value for name, value in os.environ.items()}
    dotenv = {name.upper(): value for name, value in dotenv_values(".env").items()} if Path(".env").is_file() else {}
    tables = [_toml(Path("prefect.toml")), _toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})]
    profile = _profile(environ, dotenv, tables)

    def look(name: str) -> object:
        full = f"PREFECT_{name}"
        for texts in (environ, dotenv):
            if texts.get(full) is not None:
                return texts[full]
        section, _, key = name.lower().partition("_")
        for table in tables:
            inner = table.get(section)
            if isinstance(inner, dict) and inner.get(key) is not None:
                return inner[key]
            if table.get(name.lower()) is not None:
                return table[name.lower()]
        return profile.get(full)

    return look


def _profile(
    environ: Mapping[str, str], dotenv: Mapping[str, str | None], tables: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the settings of the active profile."""
    named = environ.get("PREFECT_PROFILES_PATH") or dotenv.get("PREFECT_PROFILES_PATH")
    named = named or next((str(table["profiles_path"]) for table in tables if table.get("profiles_path")), None)
    home = environ.get("PREFECT_HOME")
    written = _toml((Path(named) if named else Path(home or _HOME) / "profiles.toml").expanduser())
    if not written and not named and not home:
        written = {"profiles": _PROFILES}
    active = environ.get("PREFECT_PROFILE") or written.get("active")
    profile = written.get("profiles", {}).get(active, {})
    return profile if isinstance(profile, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", hint="Prefect's settings are in it. Correct it."
        ) from None
