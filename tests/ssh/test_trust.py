import dataclasses
import subprocess
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError, NotTrusted
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint
from tests.ssh.sshd import Sshd, fingerprint, make_key, public

T = 20


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_key(tmp_path / "other")


def known(endpoint: Endpoint, tmp_path: Path, *lines: str) -> Endpoint:
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return dataclasses.replace(endpoint, known_hosts=(file,))


def test_key_pinned_in_the_inventory(endpoint: Endpoint, server: Sshd) -> None:
    with open_connection(endpoint, timeout_s=T) as target:
        assert target.host_key == public(server.host_key)
    assert not endpoint.pins.exists()


def test_changed_key_names_both_and_the_source_of_the_expected_one(
    endpoint: Endpoint, server: Sshd, other: Path
) -> None:
    with pytest.raises(NotTrusted) as info:
        open_connection(dataclasses.replace(endpoint, pinned_key=public(other)), timeout_s=T)
    assert f"host key ssh-ed25519 {fingerprint(server.host_key)}" in info.value.message
    assert f", expected ssh-ed25519 {fingerprint(other)} (the inventory)" in info.value.message
    assert info.value.hint


def test_invalid_pin(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match="host_key is invalid: 'ssh-ed25519 nonsense'"):
        open_connection(dataclasses.replace(endpoint, pinned_key="ssh-ed25519 nonsense"), timeout_s=T)


def test_unknown_key_is_refused(unpinned: Endpoint, server: Sshd) -> None:
    with pytest.raises(NotTrusted, match="which is unknown here") as info:
        open_connection(unpinned, timeout_s=T)
    assert f'host_key = "{public(server.host_key)}"' in info.value.hint
    assert not unpinned.pins.exists()


def test_first_use_pins_and_binds(unpinned: Endpoint, server: Sshd, other: Path) -> None:
    first = dataclasses.replace(unpinned, allow_first_use=True)
    open_connection(first, timeout_s=T).close()
    assert unpinned.pins.read_text() == f"cottage {public(server.host_key)}\n"
    assert unpinned.pins.stat().st_mode & 0o777 == 0o600
    assert unpinned.pins.parent.stat().st_mode & 0o777 == 0o700
    open_connection(unpinned, timeout_s=T).close()
    open_connection(first, timeout_s=T).close()
    assert unpinned.pins.read_text().count("\n") == 1
    unpinned.pins.write_text(f"cottage {public(other)}\n")
    for endpoint in (unpinned, first):
        with pytest.raises(NotTrusted, match=rf", expected .* \({unpinned.pins} line 1\)"):
            open_connection(endpoint, timeout_s=T)


def test_pin_of_another_host_says_nothing(unpinned: Endpoint, other: Path) -> None:
    unpinned.pins.parent.mkdir()
    unpinned.pins.write_text(f"barn {public(other)}\n")
    open_connection(dataclasses.replace(unpinned, allow_first_use=True), timeout_s=T).close()
    assert [line.split()[0] for line in unpinned.pins.read_text().splitlines()] == ["barn", "cottage"]


@pytest.mark.parametrize("name", ["[127.0.0.1]:{port}", "127.0.0.1", "barn,[127.0.0.?]:{port}", "*"])
def test_known_hosts_of_the_user(unpinned: Endpoint, server: Sshd, tmp_path: Path, name: str) -> None:
    line = f"{name.format(port=server.port)} {public(server.host_key)} a comment"
    open_connection(known(unpinned, tmp_path, "# a remark", "", "garbage", line), timeout_s=T).close()


def test_hashed_known_hosts(unpinned: Endpoint, server: Sshd, tmp_path: Path) -> None:
    endpoint = known(unpinned, tmp_path, f"[127.0.0.1]:{server.port} {public(server.host_key)}")
    file = endpoint.known_hosts[0]
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "127.0.0.1" not in file.read_text()
    open_connection(endpoint, timeout_s=T).close()


def test_known_hosts_wins_over_the_inventory(endpoint: Endpoint, server: Sshd, tmp_path: Path, other: Path) -> None:
    with pytest.raises(NotTrusted, match="known_hosts line 1"):
        open_connection(known(endpoint, tmp_path, f"[127.0.0.1]:{server.port} {public(other)}"), timeout_s=T)


def test_the_name_with_the_port_wins_over_the_bare_name(
    unpinned: Endpoint, server: Sshd, tmp_path: Path, other: Path
) -> None:
    lines = [f"127.0.0.1 {public(other)}", f"[127.0.0.1]:{server.port} {public(server.host_key)}"]
    open_connection(known(unpinned, tmp_path, *lines), timeout_s=T).close()


def test_negated_name_is_not_known(unpinned: Endpoint, server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(NotTrusted, match="is unknown here"):
        open_connection(known(unpinned, tmp_path, f"*,!*127.0.0.1* {public(server.host_key)}"), timeout_s=T)


def test_authority_vouches_for_no_plain_key(unpinned: Endpoint, server: Sshd, tmp_path: Path) -> None:
    endpoint = dataclasses.replace(
        known(unpinned, tmp_path, f"@cert-authority * {public(server.host_key)}"), allow_first_use=True
    )
    with pytest.raises(NotTrusted, match="known_hosts line 1 does not vouch: it shows no certificate"):
        open_connection(endpoint, timeout_s=T)
    assert not endpoint.pins.exists()


def test_revoked_key_is_refused_whatever_else_knows_it(endpoint: Endpoint, server: Sshd, tmp_path: Path) -> None:
    key = public(server.host_key)
    lines = [f"127.0.0.1 {key}", f"@revoked 127.0.0.1 {key}"]
    with pytest.raises(NotTrusted, match=r"known_hosts line 2 revokes"):
        open_connection(known(endpoint, tmp_path, *lines), timeout_s=T)


def test_alias_stands_for_the_address(unpinned: Endpoint, server: Sshd, tmp_path: Path, other: Path) -> None:
    lines = [f"[127.0.0.1]:{server.port} {public(other)}", f"home {public(server.host_key)}"]
    endpoint = dataclasses.replace(known(unpinned, tmp_path, *lines), host_key_alias="home")
    open_connection(endpoint, timeout_s=T).close()


def test_server_with_more_keys_shows_the_one_that_is_known(client_key: Path, tmp_path: Path) -> None:
    rsa = make_key(tmp_path / "rsa", "rsa")
    server = Sshd(tmp_path, client_key, settings=(f"HostKey {rsa}",))
    server.start()
    try:
        endpoint = Endpoint(
            host="cottage",
            address="127.0.0.1",
            port=server.port,
            identity_files=(client_key,),
            pins=tmp_path / "pins",
            pinned_key=public(rsa),
        )
        with open_connection(endpoint, timeout_s=T) as target:
            assert target.host_key == public(rsa)
    finally:
        server.stop()
