"""State archives of any content."""

import gzip
import io
import json
import tarfile
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import NotTrusted
from holdfast.tailnet.archive import MAX_EXTRA_HEADERS, check_archive
from tests.unit.hostile import answered, mixed, numbers, quick, texts, values
from tests.unit.test_archive import NODE, STATE, state, tar_of


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
