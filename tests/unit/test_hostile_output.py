"""What is shown of the words of others: of Nix, in the report, in errors and logs."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, HoldfastError
from holdfast.base.text import LineSplitter, Tail, in_markdown, printable
from holdfast.nixcli.commands import (
    CopyProgress,
    parse_closure_size,
    parse_metadata,
    parse_prefetched,
    parse_version,
)
from holdfast.nixcli.evaluation import read
from holdfast.plan.configuration import parse_configuration
from tasks.run.journal import Attempt, Journal
from tasks.run.report import assemble
from tests.unit.cases import LOCK, host
from tests.unit.hostile import answered, mixed, quick, safe, safe_markdown, values


class TestNix:
    @quick
    @given(
        st.lists(
            st.one_of(
                mixed,
                values.map(json.dumps),
                st.fixed_dictionaries(
                    {
                        "action": st.sampled_from(["start", "result", "msg", "stop"]),
                        "type": st.sampled_from([100, 103, 105]),
                        "id": st.one_of(st.just(1), values),
                        "level": st.one_of(st.just(1), values),
                        "fields": values,
                        "text": values,
                        "msg": values,
                    }
                ).map(json.dumps),
            )
        )
    )
    def test_progress(self, lines: list[str]) -> None:
        progress = CopyProgress()
        for line in ('{"action":"start","type":100,"id":1,"text":"x"}', *lines):
            said = progress.take(f"@nix {line}")
            if said:
                safe(said)
            assert 0 <= progress.copied_bytes < 2**70
            100.0 * progress.copied_bytes / 7
        progress.begin_again()

    @pytest.mark.parametrize("field", ["Infinity", "NaN", "-1", "1e400", "9" * 400, '"1"', "true"])
    def test_bytes_that_are_no_number(self, field: str) -> None:
        progress = CopyProgress()
        progress.take('@nix {"action":"start","type":100,"id":1,"text":"x"}')
        progress.take(f'@nix {{"action":"result","type":105,"id":1,"fields":[{field},5]}}')
        assert progress.copied_bytes in (0, 1)

    def test_deep_event(self) -> None:
        assert CopyProgress().take("@nix " + "[" * 100_000) is None

    def test_message_has_no_colour_and_forges_no_line(self) -> None:
        event = json.dumps({"action": "msg", "level": 0, "msg": "\x1b[31;1merror:\x1b[0m no\n  \x1b[2Jroot logged in"})
        assert CopyProgress().take(f"@nix {event}") == "error: no | \\x1b[2Jroot logged in"

    @quick
    @given(st.one_of(mixed, values.map(json.dumps), st.just("[" * 100_000)))
    def test_answers(self, output: str) -> None:
        for parse in (parse_prefetched, parse_closure_size, parse_configuration):
            answered(partial(parse, output), also=ValueError)
        answered(partial(parse_metadata, output, "/flake"), also=ValueError)
        answered(partial(read, host(), LOCK, output))
        parse_version(output)


class TestRecord:
    @quick
    @given(
        st.text(max_size=20),
        st.one_of(mixed, st.just("x")),
        st.dictionaries(
            st.sampled_from(["identity", "boot_id", "toplevel", "booted", "path", "away_s", "skipped", "origin"]),
            st.one_of(mixed, values),
        ),
    )
    def test_report(self, name: str, error: str, result: dict[str, Any]) -> None:
        entries = [
            Attempt.model_construct(
                phase=phase, outcome="done", started_at=0.0, seconds=1.0, start=1, result=result, error=""
            )
            for phase in ("preflight", "build", "reconnect", "verify")
        ]
        entries.append(
            Attempt.model_construct(
                phase="run", outcome="failed", started_at=0.0, seconds=1.0, start=1, result=None, error=error
            )
        )
        for flow in ("install", "rehearse"):
            safe_markdown(assemble("r", flow, name, entries, peak_rss_bytes=1).to_markdown())

    @quick
    @given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
    def test_journal(self, tmp_path: Path, rubbish: bytes, error: str) -> None:
        journal = Journal(tmp_path)
        (tmp_path / "journal.jsonl").write_bytes(rubbish)
        entry = Attempt(phase="kexec", outcome="failed", started_at=0, seconds=1, start=1, error=error)
        journal.add(entry)
        assert list(journal.entries())[-1] == entry

    def test_error_of_a_report_is_no_markup(self) -> None:
        failed = CommandFailed(CommandResult(("x",), "cottage", 1, "", "<img src=http://evil/>\n[ok](http://evil)", 1))
        entry = Attempt(phase="run", outcome="failed", started_at=0, seconds=1, start=1, error=str(failed))
        shown = assemble("r", "install", "cottage", [entry], peak_rss_bytes=1).to_markdown()
        assert "evil" in shown
        safe_markdown(shown)


class TestText:
    @quick
    @given(mixed)
    def test_printable_and_markdown(self, text: str) -> None:
        safe(printable(text))
        safe_markdown(f"| {in_markdown(text, 100)} |")
        assert printable(printable(text)) == printable(text)

    @quick
    @given(mixed, mixed)
    def test_errors(self, message: str, hint: str) -> None:
        error = HoldfastError(message, hint=hint)
        safe(str(error) + "".join(error.args))
        failed = CommandFailed(CommandResult(("x", message), "cottage", 1, message, hint, 1))
        safe(str(failed))

    def test_endless_error_is_cut(self) -> None:
        failed = CommandFailed(CommandResult(("x",), "cottage", 1, "", "y" * 10_000_000, 1))
        assert len(str(failed)) <= 4000

    @quick
    @given(st.lists(st.binary(max_size=60), max_size=20))
    def test_lines(self, pieces: list[bytes]) -> None:
        got: list[str] = []
        lines, tail = LineSplitter(got.append), Tail(50)
        for piece in pieces:
            lines.feed(piece)
            tail.feed(piece)
        lines.feed(b"", last=True)
        for line in got:
            safe(line)
        assert len(tail.content()) <= 50
