"""Whether others than this machine's users may command the Prefect server."""

import pytest

from deployments.serve import who_may_reach


@pytest.mark.parametrize(
    ("api_url", "server_host", "authenticated", "warned_of"),
    [
        ("", "127.0.0.1", False, ""),
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
