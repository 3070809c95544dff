"""The standard way's state: whose it is, that it can be decrypted, and that nothing is guessed."""

from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from holdfast.base.errors import ConfigError, NotTrusted, TargetRefused
from holdfast.base.settings import Settings
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.tailnet.giving_back import check_giving_back, state_to_give_back
from holdfast.tailnet.vault import Label, Vault
from tests.unit.cases import facts, host, plan
from tests.unit.test_archive import NODE, STATE, state, tar_of

HOST_KEY = "ssh-ed25519 AAAA"
ARCHIVE = tar_of(STATE)
OTHER = Identity(node_key="nodekey:" + "cd" * 32, node_id="n2", addresses=("100.64.0.2",))


def stock_installer() -> Facts:
    nothing = {"installer_mark": "", "tailscale_installed": "", "tailscaled_pid": "", "tailscale_status": ""}
    return facts("installer", os_release="ID=nixos\nVARIANT_ID=installer", **nothing)


def standard(**more: object) -> Host:
    return host(way="standard", **more)


def planned(identity: Identity | None = NODE, inventory: Host | None = None) -> Plan:
    return plan(stock_installer(), inventory or standard(), vault_identity=identity)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def keep(settings: Settings, *, archive: bytes = ARCHIVE, identity: Identity = NODE, host_key: str = HOST_KEY) -> str:
    return str(Vault(settings).store("cottage", archive, Label(identity=identity, host_key=host_key)).path)


def test_resumed_run_finds_the_node_by_its_host_key(settings: Settings) -> None:
    keep(settings)
    keep(settings, identity=OTHER, host_key="ssh-ed25519 BBBB")
    assert check_giving_back(standard(), stock_installer(), HOST_KEY, settings) == NODE
    assert state_to_give_back(standard(), planned(), "", settings) == ARCHIVE


def test_resumed_run_without_a_state_of_this_machine_stops(settings: Settings) -> None:
    keep(settings, host_key="ssh-ed25519 BBBB")
    with pytest.raises(
        TargetRefused, match=r"no state of a machine with its SSH host key.*keep.tailscale_state = false"
    ):
        check_giving_back(standard(), stock_installer(), HOST_KEY, settings)
    gives_up = standard(keep={"tailscale_state": False})
    assert check_giving_back(gives_up, stock_installer(), HOST_KEY, settings) is None
    assert state_to_give_back(gives_up, planned(None, gives_up), "", settings) is None


def test_resumed_run_does_not_believe_a_label_alone(settings: Settings) -> None:
    keep(settings, identity=OTHER)
    with pytest.raises(NotTrusted, match="restores nodekey"):
        check_giving_back(standard(), stock_installer(), HOST_KEY, settings)


def test_this_runs_entry_goes_before_a_newer_one(settings: Settings) -> None:
    own = keep(settings)
    keep(settings, archive=tar_of(STATE, ("newer", b"x")))
    assert state_to_give_back(standard(), planned(), own, settings) == ARCHIVE


def test_entry_that_is_another_node_by_now_is_not_given(settings: Settings) -> None:
    own = keep(settings, archive=tar_of(("tailscaled.state", state(PrivateNodeKey="privkey:" + "09" * 32))))
    with pytest.raises(NotTrusted, match="restores nodekey"):
        state_to_give_back(standard(), planned(), own, settings)


def test_entry_that_is_gone(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="cannot be read here"):
        state_to_give_back(standard(), planned(), str(settings.vault_dir / "cottage" / "x.tar.gz"), settings)
    with pytest.raises(TargetRefused, match="no longer has a state of cottage"):
        state_to_give_back(standard(), planned(), "", settings)


def test_encrypted_vault_has_to_open_before_the_origin_is_left(settings: Settings, tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    blind = settings.model_copy(update={"age_recipient": str(key.to_public())})
    with pytest.raises(ConfigError, match="HOLDFAST_AGE_IDENTITY_FILE"):
        check_giving_back(standard(), facts("debian-12"), HOST_KEY, blind)
    (tmp_path / "age.txt").write_text(f"{key}\n")
    seeing = blind.model_copy(update={"age_identity_file": tmp_path / "age.txt"})
    assert check_giving_back(standard(), facts("debian-12"), HOST_KEY, seeing) is None
    own = keep(seeing)
    assert own.endswith(".age")
    assert state_to_give_back(standard(), planned(), own, seeing) == ARCHIVE


def test_what_does_not_need_the_vault_does_not_ask_it(settings: Settings) -> None:
    blind = settings.model_copy(update={"age_recipient": str(pyrage.x25519.Identity.generate().to_public())})
    bare = facts("debian-12", tailscale_installed="", tailscaled_pid="", tailscale_status="")
    for inventory, seen in (
        (host(), facts("debian-12")),
        (standard(keep={"tailscale_state": False}), facts("debian-12")),
        (standard(), bare),
        (standard(), facts("installer")),
    ):
        assert check_giving_back(inventory, seen, HOST_KEY, blind) is None
