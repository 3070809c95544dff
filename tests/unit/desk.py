"""The operator's desk: a nix and a tailscale that know the fake machine. The fixture `machine` puts one in place."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed
from tests.unit.cases import BY_ID, CONFIGURATION, LOCK, built, system
from tests.unit.disko_layouts import recorded
from tests.unit.target import FakeMachine

COPY_S = 5.0


class Desk:
    """Runs what `holdfast.base.process.run_local` is given.

    Attributes:
        built: what the flake builds.
        configuration: what describe.nix says of it.
        metadata: what nix says of the flake when it locks it.
        locked, evaluated: how often nix did so.
        options: the settings that each command of nix was given as `--option NAME VALUE`, by its first word.
        copies: what nix says of each copy that fails, first to last; further ones succeed.
        path_bytes: how much of each copy goes over a link that is slow.
        while_copying: called in the middle of each copy.
        scripts: the text of the scripts in the store, by path; the disko script formats one disk.
        missing: paths that are not in the store.
        disks: the disks of the disko configuration.
        layout: what layout.nix says of it.
        status: what tailscale says; None for what it sees of the machine, empty if it does not answer.

    """

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self.built = built(toplevel=machine.toplevel)
        self.configuration = CONFIGURATION
        self.metadata: dict[str, Any] = {
            "locked": {"type": "git", "rev": LOCK.revision, "narHash": LOCK.nar_hash},
            "url": LOCK.reference,
            "path": "/nix/store/abc-source",
        }
        self.locked = self.evaluated = 0
        self.options: dict[str, list[dict[str, str]]] = {}
        self.copies: list[str] = []
        self.path_bytes = 0
        self.while_copying: Callable[[], object] = lambda: None
        self.scripts: dict[str, str] = {}
        self.missing: set[str] = set()
        self.disks: dict[str, dict[str, object]] = {"main": {"device": BY_ID, "destroy": True}}
        self.layout: object = recorded("hybrid")["mounts"]
        self.status: str | None = None

    def run_local(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
        check: bool = True,
        if_missing: str = "",
    ) -> CommandResult:
        assert timeout_s > 0
        assert check
        assert ("HOLDFAST_NIX" in if_missing) == (argv[0] == "nix")
        stdout = stderr = ""
        argv = self._without_options(list(argv))
        match argv:
            case ["tailscale", "status", "--json"]:
                stdout = self._sees() if self.status is None else self.status
            case ["nix", "--version"]:
                stdout = "nix (Nix) 2.26.3\n"
            case ["nix", _, _, "flake", "metadata", "--refresh", "--json", _]:
                self.locked += 1
                stdout = json.dumps(self.metadata)
            case ["nix", _, _, "eval", "--no-write-lock-file", "--json", what, "--apply", _]:
                assert what == f'{LOCK.reference}#nixosConfigurations."cottage"'
                self.evaluated += 1
                stdout = json.dumps(self.answer())
            case ["nix", _, _, "build", *_]:
                pass
            case ["nix", _, _, "path-info", _, path]:
                stdout = f"{path} {self.built.closure_bytes}\n"
            case ["nix", _, _, "store", "cat", path]:
                stdout = self.scripts.get(path, f"#!/bin/sh\nwipefs {BY_ID}\n")
                stderr = f"error: path '{path}' does not exist" if path in self.missing else ""
            case ["nix", _, _, "copy", *words]:
                assert env
                assert env["NIX_SSHOPTS"].startswith("-F /")
                stderr = self._copies(words[words.index("--to") + 1 :], on_line or print, meanwhile or (lambda: None))
            case _:
                raise AssertionError(f"the operator has no {argv}")
        result = CommandResult(tuple(argv), "operator", int(bool(stderr)), stdout, stderr, 1.0)
        if stderr:
            raise CommandFailed(result)
        return result

    def _without_options(self, argv: list[str]) -> list[str]:
        """Note the settings at the end of a command of nix, and return the rest."""
        given: dict[str, str] = {}
        while argv[0] == "nix" and argv[-3:-2] == ["--option"]:
            given[argv[-2]] = argv[-1]
            argv = argv[:-3]
        if argv[0] == "nix" and len(argv) > 3:
            self.options.setdefault(argv[3], []).append(given)
        return argv

    def _sees(self) -> str:
        node = json.loads(self.machine.fact("tailscale_status"))["Self"]
        peer = node | {"Online": self.machine.up, "Relay": "fra", "CurAddr": ""}
        return json.dumps({"BackendState": "Running", "Self": {}, "Peer": {"x": peer}})

    def answer(self) -> dict[str, Any]:
        """What evaluate.nix says of the flake."""
        made = system(toplevel={"out": self.built.toplevel, "drv": "/nix/store/drv-nixos-system.drv"})
        parts = made.model_dump(include={"toplevel", "disko_script", "mount_script"})
        return {"disks": self.disks, "configuration": self.configuration, "layout": self.layout, **parts}

    def _copies(self, words: Sequence[str], on_line: Callable[[str], None], meanwhile: Callable[[], None]) -> str:
        """Copy three paths, of which one is there in part if it fails; return how it failed."""
        store, *paths = words
        clock = self.machine.clock
        clock.sleep(COPY_S)
        if not self.machine.up:
            return "ssh: connect to host cottage port 22: Connection timed out"
        on_line('@nix {"action":"start","id":1,"level":3,"type":103,"text":"copying 3 paths"}')
        for path in (2, 3):
            on_line(f'@nix {{"action":"start","id":{path},"level":3,"type":100,"text":"copying path {path}"}}')
        on_line('@nix {"action":"result","id":2,"type":105,"fields":[100,100,0,0]}')
        on_line('@nix {"action":"result","id":3,"type":105,"fields":[50,200,0,0]}')
        self.while_copying()
        boot_id = self.machine.boot_id
        for over in self.machine.carry(self.path_bytes):
            on_line(f'@nix {{"action":"result","id":3,"type":105,"fields":[{50 + over},{50 + self.path_bytes},0,0]}}')
            meanwhile()
            if not self.machine.up or self.machine.boot_id != boot_id:
                return "client_loop: send disconnect: Broken pipe"
        if self.copies:
            return self.copies.pop(0)
        root = unquote(store).partition("root=")[2] or "/"
        self.machine.tell(f"copied to {root}: {', '.join(path.partition('-')[2] for path in paths)}")
        return ""
