"""known_hosts, ssh config and inventory of any text, and any name in them."""

import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import ConfigError
from holdfast.inventory.loading import chosen_host, load_inventory
from holdfast.inventory.reference import parse_download, resolve_image, resolve_reference
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.hostkeys import HostKey, trust_of
from holdfast.ssh.sshconfig import parse as parse_ssh_config
from tests.unit.hostile import answered, mixed, quick, safe


class TestHostKeys:
    @quick
    @given(
        st.lists(
            st.one_of(
                mixed,
                st.tuples(mixed, mixed, mixed).map(" ".join),
                mixed.map(lambda text: f"|1|{text}|{text} ssh-ed25519 AAAA"),
            )
        )
    )
    def test_known_hosts(self, tmp_path: Path, lines: list[str]) -> None:
        file = tmp_path / "known_hosts"
        file.write_text("\n".join(lines), errors="surrogatepass")
        endpoint = Endpoint(host="cottage", address="192.0.2.1", pins=tmp_path / "pins", known_hosts=(file,))
        answered(lambda: trust_of(endpoint))

    @quick
    @given(mixed, mixed)
    def test_key(self, kind: str, blob: str) -> None:
        for text in (f"{kind} {blob}", f"ssh-ed25519 {blob}", f"{kind} AAAAC3NzaC1lZDI1NTE5AAAA"):
            if key := HostKey.parse(text):
                safe(key.shown())
                safe(str(key))

    def test_line_that_is_not_ascii_is_passed_over(self, tmp_path: Path) -> None:
        file = tmp_path / "known_hosts"
        file.write_text("|1|é|é ssh-ed25519 AAAA\n192.0.2.1 ssh-ed25519 é\n192.0.2.1 é AAAA\n")
        endpoint = Endpoint(host="cottage", address="192.0.2.1", pins=tmp_path / "pins", known_hosts=(file,))
        assert trust_of(endpoint).expected == ()


class TestSshConfig:
    @quick
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["hostname", "port", "user", "identityfile", "proxyjump", "userknownhostsfile", "hostkeyalias"]
                ),
                mixed,
            )
        )
    )
    def test_parse(self, said: list[tuple[str, str]]) -> None:
        answered(lambda: parse_ssh_config("\n".join(f"{key} {value}" for key, value in said)), also=ValueError)

    def test_home_of_nobody_is_no_file(self) -> None:
        looked = parse_ssh_config(
            "hostname a\nport 22\nuser b\nidentityfile ~nosuchuser/x\nuserknownhostsfile ~nosuchuser/y"
        )
        assert (looked.identity_files, looked.known_hosts) == ((), (Path("~nosuchuser/y"),))


KEYS = (
    "target",
    "flake",
    "attribute",
    "kexec",
    "user",
    "port",
    "identity_file",
    "proxy",
    "local",
    "host_key",
    "elevation",
    "approval",
    "disks",
    "extra_files",
    "files",
    "encryption_keys",
    "installer_secrets",
    "keep",
    "allow",
    "schedule",
    "deadlines",
    "way",
    "name",
)


class TestInventory:
    @quick
    @given(st.one_of(mixed, st.tuples(mixed, st.sampled_from(KEYS), mixed)))
    def test_file(self, tmp_path: Path, said: str | tuple[str, str, str]) -> None:
        file = tmp_path / "hosts.toml"
        if isinstance(said, tuple):
            name, key, value = (
                json.dumps(text.encode("utf-8", "replace").decode()).replace("\x7f", "\\u007f") for text in said
            )
            said = f"[{name}]\n{key} = {value}\n[cottage]\n{key} = {value}\n"
        file.write_text(said, errors="surrogatepass")
        made = answered(lambda: load_inventory(file))
        for one in made.hosts.values() if made else ():
            safe(f"{one.name} {one.attribute} {one.target} {one.user}")

    @quick
    @given(mixed, mixed, mixed)
    def test_parameters_of_a_run(self, tmp_path: Path, name: str, address: str, image: str) -> None:
        file = tmp_path / "hosts.toml"
        file.write_text("[cottage]\n")
        for chosen in ((name, address, image), ("cottage", address, image), ("cottage", None, image)):
            answered(partial(chosen_host, file, chosen[0], target=chosen[1], image=chosen[2]))

    @pytest.mark.parametrize("name", ["..", "a/b", "a\nb", "a\0b", "A", "", "-a", "a" * 64, "\u202ea", "defaults2 "])
    def test_name_that_is_no_label(self, tmp_path: Path, name: str) -> None:
        file = tmp_path / "hosts.toml"
        file.write_text(f"[{json.dumps(name)}]\n")
        with pytest.raises(ConfigError, match="cannot be a host's name"):
            load_inventory(file)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a = " + "[" * 5000, "is not valid TOML"),
            ("a = " + "9" * 5000, "is not valid TOML"),
            ('[a]\nkexec = "~nosuchuser/x"', "names no user"),
            ('[a]\nextra_files = "~nosuchuser/x"', "names no user"),
            ('[a]\nextra_files = "a\\u0000b"', "contain a NUL"),
            ('[a]\nidentity_file = "a\\u0000b"', "contain a NUL"),
            ('[a]\nflake = "x\\ny"', "flake is"),
            ('[a]\nattribute = "../x"', "attribute is"),
            ('[a]\ntarget = "-oProxyCommand=x"', "target is"),
        ],
    )
    def test_value_that_cannot_be(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "hosts.toml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_inventory(file)

    def test_links_that_go_round_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "round").symlink_to("round")
        file = tmp_path / "hosts.toml"
        file.write_text('[a]\nkexec = "round"\n')
        with pytest.raises(ConfigError, match="circle"):
            load_inventory(file)


@quick
@given(mixed)
def test_references(tmp_path: Path, text: str) -> None:
    for call in (
        lambda: parse_download(text),
        lambda: resolve_image(text, tmp_path),
        lambda: resolve_reference(text, tmp_path),
    ):
        answered(call, also=ValueError)
