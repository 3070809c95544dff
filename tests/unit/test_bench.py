"""What `just bench` makes of its measurements."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from bench.beside import script_of
from bench.install import SAME_WORK, WHOLE, Seen, left, returns, rows
from bench.probe import accepts
from bench.results import Machine, Measured, table, this_machine, write

MACHINE = Machine(date="2026-05-01", cpus=2, model="Some CPU", lab="kvm", load_before=0.1, load_after=1.5)
FOUND = [Measured("upload", 3.0, "ssh cat", 2.0), Measured("phase kexec", 13.25), Measured("SSH commands", 95, unit="")]


def test_table_shows_ratios_and_the_machine() -> None:
    assert table(MACHINE, FOUND).splitlines() == [
        "| what | measured | beside | measured | ratio |",
        "|---|---|---|---|---|",
        "| upload | 3.00 s | ssh cat | 2.00 s | 1.50 |",
        "| phase kexec | 13.25 s |  |  |  |",
        "| SSH commands | 95 |  |  |  |",
        "",
        "2026-05-01, 2 processors (Some CPU), the lab's machines by kvm,",
        "load 0.1 before and 1.5 after.",
    ]


def test_numbers_are_written_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.results.accelerator", lambda _: "kvm")
    write(tmp_path / "new" / "bench.json", this_machine(0.5), FOUND)
    told = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert (told["machine"]["load_before"], told["machine"]["lab"]) == (0.5, "kvm")
    assert [(row["what"], row["ratio"]) for row in told["measured"]][:2] == [("upload", 1.5), ("phase kexec", None)]


def one(whole_s: float, *, probed_s: float = 24.0) -> Seen:
    report = {
        "phases": [{"name": "preflight", "seconds": whole_s / 50}, {"name": "build", "seconds": 1.6}],
        "connections": 11,
        "commands": 90,
        "peak_rss_bytes": 120_000_000,
    }
    return Seen(whole_s, 2.5, report, {"kexec": (25.0, probed_s)})


def test_rows_are_medians_beside_nixos_anywhere() -> None:
    ours = {SAME_WORK: [one(80), one(90)], WHOLE: [one(150), one(160)]}
    found = rows(ours, [(70.0, 84.0), (72.0, 86.0)])
    assert [(each.what, each.value, each.ratio) for each in found] == [
        (SAME_WORK, 85, 1.0),
        (WHOLE, 155, 1.82),
        ("nixos-anywhere, until it says Done", 71.0, None),
        ("from the command to the first phase", 2.5, None),
        ("phase preflight", 3.1, None),
        ("phase build", 1.6, None),
        ("away at kexec", 25.0, 1.04),
        ("SSH connections", 11, None),
        ("SSH commands", 90, None),
        ("most memory of the flow's process", 120.0, None),
    ]


def test_without_nixos_anywhere_nothing_stands_beside() -> None:
    found = rows({SAME_WORK: [one(80)], WHOLE: [one(150)]}, [])
    assert [(each.what, each.beside) for each in found][:3] == [
        (SAME_WORK, ""),
        (WHOLE, ""),
        ("from the command to the first phase", ""),
    ]


def test_the_probes_return_is_that_of_the_same_boot() -> None:
    journal: list[dict[str, Any]] = [
        {"phase": "kexec", "outcome": "failed", "result": None},
        {"phase": "kexec", "outcome": "done", "result": {"kexec_at": 1000.0}},
        {"phase": "trial", "outcome": "done", "result": {"kexec_at": 0}},
        {"phase": "reboot", "outcome": "done", "result": {"rebooted_at": 1100.0}},
    ]
    left_at = left(iter(journal))
    assert left_at == {"kexec": 1000.0, "reboot": 1100.0}
    away_s: dict[str, float | None] = {"kexec": 26.0, "trial": 30.0, "reboot": 22.0}
    assert returns(away_s, left_at, [1025.0, 1060.0, 1121.0]) == {"kexec": (26.0, 25.0), "reboot": (22.0, 21.0)}
    assert returns(away_s, left_at, []) == {}


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkout of nixos-anywhere"):
        script_of(tmp_path)


def test_the_probe_meets_a_port_that_accepts_and_no_other(tmp_path: Path) -> None:
    accepted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ts-dial\r\nConnection: upgrade\r\n\r\n"
    refuses = b"HTTP/1.1 500 Internal Server Error\r\n\r\ndial failure"
    for said, answers in ((accepted, True), (refuses, False)):
        path = tmp_path / f"{answers}.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def serve(listener: socket.socket = listener, said: bytes = said) -> None:
                link, _ = listener.accept()
                with link:
                    assert b"Dial-Host: 100.64.0.1\r\nDial-Port: 22\r\n" in link.recv(4096)
                    link.sendall(said)

            serving = threading.Thread(target=serve)
            serving.start()
            assert accepts(path, "100.64.0.1", 10) is answers
            serving.join()
    assert not accepts(tmp_path / "nobody.sock", "100.64.0.1", 10)
