"""Facts of any shape, and clocks that are wrong."""

import json
import time
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.facts.answer import MAX_FACTS_BYTES
from holdfast.facts.facts import Facts, parse_facts
from holdfast.facts.identity import parse_status
from holdfast.plan.fitness import check_target
from holdfast.plan.markdown import to_markdown
from holdfast.plan.stage import observe
from holdfast.target import lock
from holdfast.target.dead_man import on_clock
from tests.unit.cases import CASES, answer, facts, host, plan, status
from tests.unit.hostile import answered, mixed, quick, safe, safe_markdown, strings_of, values
from tests.unit.test_lock import Lock

RECORDED = sorted(path.stem for path in CASES.glob("*.json"))
FACTS = sorted(json.loads((CASES / "debian-12.json").read_text()))


def everything_of(seen: Facts) -> None:
    """See that all that is made of facts for people and for the UI is safe."""
    for text in strings_of(seen.model_dump(mode="json")):
        safe(text)
    safe(observe(seen).why)
    for disk in seen.disks:
        safe(disk.describe_content())
        safe(f"{disk.path} {disk.stable_id} {disk.mountpoints} {disk.by_id}")
    made = answered(lambda: plan(seen, host(disks=[]), devices={"main": "/dev/vda"}))
    if made is not None:
        safe_markdown(to_markdown(made))
        made.model_dump_json()
    answered(lambda: check_target(seen, host(), None))


class TestFacts:
    @quick
    @given(
        st.sampled_from(RECORDED),
        st.dictionaries(st.sampled_from(FACTS), st.one_of(mixed, st.lists(mixed).map("\n".join))),
    )
    def test_changed(self, case: str, changed: dict[str, str]) -> None:
        changed = {
            key: value for key, value in changed.items() if key in json.loads((CASES / f"{case}.json").read_text())
        }
        seen = answered(lambda: facts(case, **changed))
        assert seen is None or isinstance(seen, Facts)
        if seen:
            everything_of(seen)

    @quick
    @given(mixed, mixed, mixed, mixed, mixed)
    def test_words_of_the_disk_and_of_the_host(
        self, serial: str, model: str, label: str, name: str, place: str
    ) -> None:
        disks = f"vda size 9999999\nvda serial {serial}\nvda model {model}\nvda partition vda1 99999 254:1\nvda {name}"
        tree = {"blockdevices": [{"name": "vda", "children": [{"name": "vda1", "label": label, "type": "part"}, name]}]}
        seen = answered(
            lambda: facts(
                "debian-12",
                hostname=name,
                disks=disks,
                disk_links=f"/dev/disk/by-id/{label} vda",
                blkid=f'/dev/vda1: LABEL="{label}" TYPE="{model}"',
                lsblk=json.dumps(tree),
                mountinfo=f"27 1 254:1 / /{place} rw - ext4 /dev/{name} rw",
                os_release=f'ID={name}\nPRETTY_NAME="{model}"',
            )
        )
        if seen:
            everything_of(seen)

    @quick
    @given(st.one_of(mixed, values.map(lambda value: '{\n"format"' + json.dumps(value)), values.map(json.dumps)))
    def test_no_facts_at_all(self, output: str) -> None:
        assert answered(lambda: parse_facts(output, "cottage")) is None

    @quick
    @given(st.sampled_from(FACTS), values)
    def test_wrong_type(self, key: str, value: object) -> None:
        said = json.loads((CASES / "debian-12.json").read_text()) | {key: value}
        output = "{\n" + json.dumps({"format": said.pop("format")} | said)[1:]
        seen = answered(lambda: parse_facts(output, "cottage"))
        assert seen is None or isinstance(value, str)

    @quick
    @given(st.integers(0, 4000), mixed)
    def test_cut_off_and_spoiled(self, at: int, rubbish: str) -> None:
        whole = answer("debian-12")
        for output in (whole[:at], whole[:at] + rubbish + whole[at:], rubbish + whole, whole + rubbish):
            if (seen := answered(partial(parse_facts, output, "cottage"))) is not None:
                everything_of(seen)

    @pytest.mark.parametrize(
        "output",
        [
            "{" * 100_000,
            '{\n"format": ' + "[" * 100_000,
            '{\n"format": "1\\n", "end": "1", "end": NaN}',
            "x" * (MAX_FACTS_BYTES + 1),
        ],
        ids=["braces", "deep", "nan and twice", "huge"],
    )
    def test_deep_twice_or_huge(self, output: str) -> None:
        with pytest.raises(UnexpectedState, match="did not answer with facts"):
            parse_facts(output, "cottage")

    def test_as_much_as_is_allowed_takes_no_endless_time(self) -> None:
        began = time.monotonic()
        many = "\n".join(f"27 1 9:{number} / /m rw - ext4 /dev/x{number} rw" for number in range(20_000))
        assert (
            len(facts("debian-12", mountinfo=many, disks="\n".join(f"d{i} size 9" for i in range(20_000))).disks) == 256
        )
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize("seconds", ["-1", "1e300", "NaN", "Infinity", '"x"', "1e12"])
    def test_mark_with_a_time_that_no_clock_can_show_is_broken(self, seconds: str) -> None:
        seen = facts("installer", installer_mark=f'{{"state": "restored", "dead_man_s": {seconds}}}')
        assert seen.broken_marks == ("installer_mark",)
        on_clock(1e11)

    @quick
    @given(mixed, mixed, mixed)
    def test_marks(self, state_: str, run_id: str, text: str) -> None:
        for mark in (json.dumps({"state": state_, "run_id": run_id, "origin_boot_id": text}), text):
            if seen := answered(partial(facts, "installer", installer_mark=mark, system_mark=mark)):
                everything_of(seen)


class TestClocks:
    """The target's clock may say anything: nothing is decided by it."""

    @pytest.mark.parametrize(
        "clock",
        ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"],
    )
    def test_key_expiry_is_compared_with_the_operators_clock(self, clock: str) -> None:
        seen = facts("debian-12", tailscale_status=status(KeyExpiry=clock))
        now = datetime(2026, 1, 1, tzinfo=UTC)
        if clock.startswith("1970"):
            with pytest.raises(TargetRefused, match="expired at 1970-01-01 00:00 UTC"):
                check_target(seen, host(), None, now=now)
        else:
            check_target(seen, host(), None, now=now)
        everything_of(seen)

    def test_expiry_is_shown_in_utc(self) -> None:
        expiry = parse_status(status(KeyExpiry="2030-01-01T01:00:00+02:00")).key_expiry
        assert f"{expiry:%Y-%m-%d %H:%M}" == "2029-12-31 23:00"

    @pytest.mark.parametrize("clock", [0, 4_070_908_800, 10**12 - 1])
    def test_lease_goes_by_uptime(self, clock: int) -> None:
        fresh = Lock("other", since=clock, renewed=clock, age_s=5)
        with pytest.raises(TargetRefused, match="another run works"):
            lock.check(fresh, "mine", lambda _run: None, mark=None)  # type: ignore[arg-type]
        old = Lock("other", since=clock, renewed=clock, age_s=lock.LEASE_S)
        lock.check(old, "mine", lambda _run: None, mark=None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("at", ["0", "4070908800"])
    def test_dead_man_at_of_its_clock_decides_nothing(self, at: str) -> None:
        mark = json.dumps({"image_id": "i", "state": "restored", "dead_man_at": int(at), "dead_man_s": 900})
        assert observe(facts("installer", installer_mark=mark)) == observe(
            facts("installer", installer_mark=mark.replace(f'"dead_man_at": {at}', '"dead_man_at": 1767225600'))
        )
