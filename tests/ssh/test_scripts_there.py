"""The disko script of a target that builds its system itself, read there through a real sshd."""

from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.nixcli.disko_script import MAX_SCRIPT
from holdfast.ssh.connection import Connection
from holdfast.target.building import scripts_of
from tests.unit.cases import built, derivation


def text_of(target: Connection, script: Path) -> str:
    return scripts_of(target, built(disko_script=str(script), mount_script="", derivations=(derivation("disko"),)))


def test_script_is_read_whole_where_it_is(target: Connection, tmp_path: Path) -> None:
    script = tmp_path / "disko"
    # What it names and is not there, or is a folder, is no script.
    text = "#!/bin/sh\n# ä\n/nix/store/abc-gone /nix/store\n" + "wipefs /dev/vdb\n" * 5000
    script.write_text(text)
    assert text_of(target, script).rstrip() == text.rstrip()


def test_script_that_never_ends_is_refused(target: Connection, tmp_path: Path) -> None:
    script = tmp_path / "disko"
    script.write_text("#!/bin/sh\n" + "x" * (7 * MAX_SCRIPT))
    with pytest.raises(ConfigError, match="too long to be checked"):
        text_of(target, script)


def test_script_that_is_not_there(target: Connection, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        text_of(target, tmp_path / "gone")
