"""Units, the lock and tailscaled of a target may answer anything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.command import CommandResult
from holdfast.base.text import printable
from holdfast.facts.identity import parse_status
from holdfast.tailnet.operator import View
from holdfast.target import lock
from holdfast.target.units import Condition, parse_journal, parse_state, parse_units
from tests.unit.hostile import answered, mixed, numbers, quick, safe, strings_of, texts, values
from tests.unit.test_lock import Lock


class TestUnits:
    @quick
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "Id",
                        "Description",
                        "Transient",
                        "LoadState",
                        "ActiveState",
                        "ExecMainCode",
                        "ExecMainStatus",
                        "Result",
                        "InvocationID",
                    ]
                ),
                mixed,
            )
        )
    )
    def test_state(self, said: list[tuple[str, str]]) -> None:
        shown = "LoadState=loaded\nActiveState=failed\nTransient=yes\n" + "\n".join(
            f"{key}={value}" for key, value in said
        )
        seen = parse_state(shown)
        safe(f"{seen.condition} {seen.result} {seen.invocation}")
        assert 0 <= seen.exit_status < 2**31
        for unit in parse_units(shown):
            safe(unit.name)

    @quick
    @given(
        st.one_of(
            mixed,
            st.lists(
                st.dictionaries(
                    st.sampled_from(["__CURSOR", "MESSAGE", "_SYSTEMD_INVOCATION_ID"]),
                    st.one_of(st.just("s=1;i=2"), values, st.lists(st.integers())),
                )
            ).map(lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)),
        )
    )
    def test_entries(self, output: str) -> None:
        for entry in parse_journal(output):
            safe(entry.text + entry.cursor + entry.invocation)
            assert len(entry.cursor) <= 1000

    def test_number_that_is_too_long(self) -> None:
        assert (
            parse_state(f"LoadState=loaded\nActiveState=failed\nExecMainCode=1\nExecMainStatus={'9' * 5000}").condition
            is Condition.FAILED
        )

    def test_deep_entry_is_left_out(self) -> None:
        assert parse_journal("[" * 100_000 + '\n{"__CURSOR": "c", "MESSAGE": "on"}')[0].text == "on"

    def test_cursor_that_cannot_go_back_is_no_cursor(self) -> None:
        assert parse_journal('{"__CURSOR": "\\ud800"}\n{"__CURSOR": "a\\u0000"}\n{"__CURSOR": ""}') == []

    @pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c"])
    def test_message_with_a_separator_is_one_entry(self, separator: str) -> None:
        line = json.dumps({"__CURSOR": "c", "MESSAGE": f"a{separator}b"}, ensure_ascii=False)
        assert [entry.text for entry in parse_journal(line)] == [printable(f"a{separator}b")]

    def test_property_cannot_forge_another(self) -> None:
        assert parse_units("Id=holdfast-x-1.service\nDescription=a\u2028Transient=yes") == []


@quick
@given(
    st.one_of(
        mixed,
        values.map(json.dumps),
        st.fixed_dictionaries(
            {
                "lock": st.sampled_from(["held", "none", "x"]),
                "run_id": mixed,
                "since": numbers,
                "renewed": numbers,
                "age_s": numbers,
                "up_s": numbers,
            }
        ).map(json.dumps),
    )
)
def test_answer_of_the_lock(said: str) -> None:
    target = Lock()
    target.run_script = lambda *_args, **_more: CommandResult((), "cottage", 0, said, "", 0)  # type: ignore[method-assign]
    answered(lambda: lock.check(target, "mine", lambda _run: None, mark=None))  # type: ignore[arg-type]
    answered(lambda: lock.hold(target, "mine", lambda _run: True, mark=None))  # type: ignore[arg-type]


class TestTailnet:
    @quick
    @given(
        st.one_of(
            mixed,
            values.map(json.dumps),
            st.dictionaries(st.sampled_from(["BackendState", "Version", "Self", "Peer"]), values).map(json.dumps),
        )
    )
    def test_status(self, text: str) -> None:
        answered(lambda: parse_status(text), also=ValueError)

    @quick
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                key: st.one_of(values, texts)
                for key in (
                    "ID",
                    "DNSName",
                    "HostName",
                    "TailscaleIPs",
                    "KeyExpiry",
                    "Expired",
                    "CurAddr",
                    "Relay",
                    "LastHandshake",
                    "LastSeen",
                    "Online",
                )
            },
        ),
        mixed,
    )
    def test_nodes(self, node: dict[str, object], state_: str) -> None:
        node = {"PublicKey": "nodekey:" + "ab" * 32} | node
        seen = parse_status(json.dumps({"BackendState": state_, "Self": node, "Peer": {"x": node}}))
        assert seen.identity is not None
        safe(
            f"{seen.backend_state} {seen.version} {seen.host_name} {seen.identity.describe()} {seen.identity.dns_name}"
        )
        for text in strings_of(seen.identity.model_dump(mode="json")):
            safe(text)
        for peer in seen.peers:
            safe(View(peer).describe())

    def test_deep_status(self) -> None:
        with pytest.raises(ValueError, match="nested"):
            parse_status("[" * 100_000)
