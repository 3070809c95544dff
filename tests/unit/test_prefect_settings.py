"""Where the Prefect server is: read without Prefect, and as Prefect reads it."""

import os
from pathlib import Path

import pytest
from prefect.settings import Settings

from deployments.prefect_settings import PrefectSettings, prefect_settings, without_login
from holdfast.base.errors import ConfigError

A, B, C, D, E = (f"http://127.0.0.1:{port}/api" for port in (4201, 4202, 4203, 4204, 4205))
FILES = {
    ".env": f"prefect_api_url={B}\nPREFECT_API_AUTH_STRING='admin:of=dotenv'\n",
    "prefect.toml": f'[api]\nurl = "{C}"\nkey = "of-prefect-toml"\nssl_cert_file = "/etc/ssl/some.pem"\n',
    "pyproject.toml": f'[tool.prefect.api]\nurl = "{D}"\ntls_insecure_skip_verify = true\n'
    '[tool.prefect.client]\ncustom_headers = { "X-From" = "pyproject" }\n',
    "profiles.toml": f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{E}"\nPREFECT_API_KEY = "of-profile"\n'
    'PREFECT_UI_URL = "https://prefect.example.org/"\n[profiles.bare]\nPREFECT_API_KEY = "bare"\n',
}
CLOUD = "https://api.prefect.cloud/api/accounts/a1/workspaces/w2"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_prefect_reads(folder: Path) -> PrefectSettings:
    assert Path.cwd() == folder
    read = Settings()
    assert read.api.url is not None
    return PrefectSettings(
        url=read.api.url.rstrip("/"),
        ui=(read.ui_url or "").rstrip("/"),
        auth_string=read.api.auth_string.get_secret_value() if read.api.auth_string else "",
        key=read.api.key.get_secret_value() if read.api.key else "",
        headers=dict(read.client.custom_headers),
        verify=not read.api.tls_insecure_skip_verify,
        certificates=read.api.ssl_cert_file or "",
    )


@pytest.mark.parametrize(
    ("files", "environment", "url"),
    [
        (FILES, {"PREFECT_API_URL": A}, A),
        (FILES, {"prefect_api_url": A}, A),
        (FILES, {}, B),
        ([name for name in FILES if name != ".env"], {}, C),
        (["pyproject.toml", "profiles.toml"], {}, D),
        (["profiles.toml"], {}, E),
        (["profiles.toml"], {"PREFECT_PROFILE": "bare", "PREFECT_API_URL": A}, A),
        (FILES, {"PREFECT_PROFILE": "not-written", "PREFECT_API_URL": f"{A}/"}, A),
        ([], {"PREFECT_API_URL": CLOUD, "PREFECT_API_KEY": "pnu_x"}, CLOUD),
        ([], {"PREFECT_API_URL": A, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-From": "environment"}'}, A),
        ([], {"PREFECT_API_URL": A, "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true"}, A),
        ([], {"PREFECT_API_URL": A, "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "0"}, A),
        ([], {"PREFECT_API_URL": "https://prefect.example.org/sub/api"}, "https://prefect.example.org/sub/api"),
    ],
)
def test_it_is_read_as_prefect_reads_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], environment: dict[str, str], url: str
) -> None:
    for name in files:
        (home / name).write_text(FILES[name])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    read = prefect_settings()
    assert read.url == url
    assert read == as_prefect_reads(home)


@pytest.mark.parametrize("files", [[], ["profiles.toml"]])
def test_no_address_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]) -> None:
    for name in files:
        (home / name).write_text(FILES[name])
    monkeypatch.setenv("PREFECT_PROFILE", "bare")
    with pytest.raises(ConfigError, match="PREFECT_API_URL is not set"):
        prefect_settings()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("prefect.toml", "[api", "prefect.toml cannot be read"),
        ("profiles.toml", "\x00", "profiles.toml cannot be read"),
        (".env", "PREFECT_CLIENT_CUSTOM_HEADERS='[1]'\nPREFECT_API_URL=http://h/api\n", "is not a JSON object"),
    ],
)
def test_what_cannot_be_read_is_one_line(home: Path, name: str, content: str, said: str) -> None:
    (home / name).write_text(content)
    with pytest.raises(ConfigError, match=said):
        prefect_settings()


def test_no_secret_is_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home
    monkeypatch.setenv("PREFECT_API_URL", "https://me:hunter2@prefect.example.org/api")
    monkeypatch.setenv("PREFECT_API_KEY", "hunter2")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"Authorization": "hunter2"}')
    read = prefect_settings()
    assert read.shown == "https://prefect.example.org/api"
    assert "hunter2" not in repr(read)
    assert without_login("http://[::1") == "(an invalid URL)"
