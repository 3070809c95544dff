"""Which Prefect server `just serve` serves, and whether others than this machine's users may command it."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import serve
from deployments.serve import who_may_reach


@pytest.mark.parametrize(
    ("api_url", "server_host", "authenticated", "warned_of"),
    [
        ("http://127.0.0.1:4200/api", "127.0.0.1", False, ""),
        ("http://localhost:4200/api", "127.0.0.1", False, ""),
        ("http://[::1]:4200/api", "::1", False, ""),
        ("http://127.0.0.1:4200/api", "0.0.0.0", False, "0.0.0.0"),
        ("http://10.0.0.2:4200/api", "127.0.0.1", False, "10.0.0.2"),
        ("https://prefect.example.org/api", "127.0.0.1", False, "prefect.example.org"),
        ("https://prefect.example.org/api", "127.0.0.1", True, ""),
        ("http://127.0.0.1:4200/api", "0.0.0.0", True, ""),
    ],
)
def test_server_without_a_password_is_warned_of(
    api_url: str, server_host: str, authenticated: bool, warned_of: str
) -> None:
    said = who_may_reach(api_url, server_host=server_host, authenticated=authenticated)
    assert warned_of in said
    assert bool(said) == bool(warned_of)


def test_without_a_server_nothing_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    """Prefect would start a server of its own, which no other verb finds."""
    with temporary_settings({PREFECT_API_URL: None}):
        assert serve.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("serve: PREFECT_API_URL is not set")
    assert said.count("\n") == 1
