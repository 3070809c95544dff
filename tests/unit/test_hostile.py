"""Whatever comes from the target, the network or a user's file: every parser gives a value, or one of our errors.

The property everywhere: no other exception, no endless time or memory, and no text that could act on a terminal, a log
or the UI. Below it, a plain test for each bug that was found so.
"""

import gzip
import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, ConfigError, HoldfastError, NotTrusted, TargetRefused, UnexpectedState
from holdfast.base.text import LineSplitter, Tail, in_markdown, printable
from holdfast.facts.facts import MAX_FACTS_BYTES, Facts, parse_facts
from holdfast.facts.identity import parse_status
from holdfast.inventory.loading import chosen_host, load_inventory
from holdfast.inventory.reference import parse_download, resolve_image, resolve_reference
from holdfast.nixcli.commands import (
    CopyProgress,
    parse_closure_size,
    parse_devices,
    parse_parts,
    parse_prefetched,
    parse_version,
)
from holdfast.plan.configuration import parse_configuration
from holdfast.plan.fitness import check_target
from holdfast.plan.markdown import to_markdown
from holdfast.plan.stage import observe
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.hostkeys import HostKey, trust_of
from holdfast.ssh.sshconfig import parse as parse_ssh_config
from holdfast.tailnet.archive import MAX_EXTRA_HEADERS, check_archive
from holdfast.tailnet.operator import View
from holdfast.target import lock
from holdfast.target.dead_man import on_clock
from holdfast.target.units import Condition, parse_journal, parse_state, parse_units
from tasks.run.journal import Attempt, Journal
from tasks.run.report import assemble
from tests.unit.cases import CASES, answer, facts, host, plan, status
from tests.unit.test_archive import NODE, STATE, state, tar_of
from tests.unit.test_lock import Lock

# Files and fixtures of a test are used for all its examples.
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

NASTY = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066\u2069\u200e",
    "\u2028forged line\u2029",
    "\x85\x0b\x0c\x1c",
    "\x00",
    "\r\n",
    "\ud800",
    "\U000e0041\ufeff",
    "'; reboot; $(reboot) `reboot` #",
    "<script>alert(1)</script>",
    "](javascript:x) | a | b |",
    "../../etc/passwd",
    "9" * 5000,
    "[" * 3000,
    "~nosuchuser/x",
    "%n%s{0}",
)
# Escapes, controls, other directions of text, separators of lines, lone surrogates.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.text(st.characters(), max_size=40))
mixed = st.lists(texts, max_size=4).map("".join)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 1e308, 1e11]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
RECORDED = sorted(path.stem for path in CASES.glob("*.json"))
FACTS = sorted(json.loads((CASES / "debian-12.json").read_text()))


def safe(text: str) -> None:
    """See that a text for a person is one line that cannot act on anything."""
    assert not UNSAFE.search(text), repr(UNSAFE.findall(text)[:5])
    text.encode()


def safe_markdown(text: str) -> None:
    """See that every line is safe, that no HTML is in it, and that a table keeps its columns."""
    columns = 0
    for line in text.split("\n"):
        safe(line)
        assert not re.search(r"<[A-Za-z/!]|(?<!\\)\]\(|://", line), line
        bars = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        assert not (columns and bars) or bars == columns, line
        columns = bars


def answered(call: Callable[[], Any], *, also: type[Exception] | tuple[()] = ()) -> Any:
    """Return the answer; of an error of ours see that it is safe to show. `also` is what the docstring promises."""
    try:
        return call()
    except HoldfastError as error:
        safe(str(error))
        assert len(error.message) <= 4000
    except also:
        pass
    return None


def strings_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_of(item)]
    return [text for item in value for text in strings_of(item)] if isinstance(value, list | tuple) else []


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


def header(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


class TestArchive:
    @quick
    @given(st.integers(0, 3000), st.binary(max_size=8))
    def test_spoiled_bytes(self, at: int, rubbish: bytes) -> None:
        plain = gzip.decompress(tar_of(STATE))
        spoiled = plain[:at] + rubbish + plain[at + len(rubbish) :]
        for archive in (gzip.compress(spoiled, 1), gzip.compress(plain[:at], 1), tar_of(STATE)[:at], rubbish):
            answered(partial(check_archive, archive, NODE))

    @quick
    @given(
        st.lists(
            st.tuples(
                mixed,
                st.sampled_from(
                    [
                        tarfile.REGTYPE,
                        tarfile.SYMTYPE,
                        tarfile.LNKTYPE,
                        tarfile.CHRTYPE,
                        tarfile.FIFOTYPE,
                        tarfile.DIRTYPE,
                        b"S",
                        b"V",
                    ]
                ),
                mixed,
            ),
            max_size=3,
        )
    )
    def test_members(self, members: list[tuple[str, bytes, str]]) -> None:
        made: list[tuple[str, bytes | tarfile.TarInfo]] = [STATE]
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            made.append((name, info))
        try:
            archive = tar_of(*made)
        except (ValueError, OSError):
            return  # tarfile itself cannot write such a name
        answered(lambda: check_archive(archive, NODE))

    @quick
    @given(
        st.sampled_from(
            [
                "path",
                "size",
                "linkpath",
                "GNU.sparse.map",
                "GNU.sparse.size",
                "GNU.sparse.major",
                "hdrcharset",
                "mtime",
                "uid",
            ]
        ),
        st.one_of(mixed, numbers.map(str)),
    )
    def test_extended_headers(self, key: str, value: str) -> None:
        body = f" {key}={value}\n".encode("utf-8", "replace")
        for length in (len(body) + len(str(len(body) + 3)), 0, 5):
            pax = header(tarfile.XHDTYPE, (str(length).encode() + body)[:1000])
            answered(partial(check_archive, gzip.compress(pax + gzip.decompress(tar_of(STATE)), 1), NODE))

    @quick
    @given(
        st.one_of(
            values,
            st.dictionaries(
                st.sampled_from(["_current-profile", "profile-7a2c", "key", "nonce", "data"]),
                st.one_of(texts, st.just("cHJvZmlsZS03YTJj"), values),
            ),
        ),
        values,
    )
    def test_state(self, store: object, key: object) -> None:
        for content in (json.dumps(store).encode(), state(PrivateNodeKey=key), state(NodeID=key)):
            answered(partial(check_archive, tar_of(("tailscaled.state", content)), NODE))

    @pytest.mark.parametrize(
        "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
    )
    @pytest.mark.parametrize(
        ("count", "content"), [(2 * MAX_EXTRA_HEADERS, b"12 path=abc\n"), (1, b"9" * 1_000_000), (900, b"9" * 1024)]
    )
    def test_extended_headers_take_no_endless_time(self, kind: bytes, count: int, content: bytes) -> None:
        began = time.monotonic()
        with pytest.raises(NotTrusted):
            check_archive(gzip.compress(header(kind, content) * count + b"\0" * 1024, 1), NODE)
        assert time.monotonic() - began < 10

    def test_long_name_is_still_read(self) -> None:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
            for name, content in ((STATE[0], STATE[1]), ("files/" + "n" * 250, b"x")):
                assert isinstance(content, bytes)
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        assert check_archive(file.getvalue(), NODE).members == 2

    def test_bomb(self) -> None:
        with pytest.raises(NotTrusted):
            check_archive(gzip.compress(b"\0" * (80 * 1024 * 1024), 1), NODE)


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
            ("a = " + "[" * 5000, "is no TOML"),
            ("a = " + "9" * 5000, "is no TOML"),
            ('[a]\nkexec = "~nosuchuser/x"', "names no user"),
            ('[a]\nextra_files = "~nosuchuser/x"', "names no user"),
            ('[a]\nextra_files = "a\\u0000b"', "holds a NUL"),
            ('[a]\nidentity_file = "a\\u0000b"', "holds a NUL"),
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
        for parse in (parse_parts, parse_devices, parse_prefetched, parse_closure_size, parse_configuration):
            answered(partial(parse, output), also=ValueError)
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
