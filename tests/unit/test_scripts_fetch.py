"""fetch.sh: an origin fetches the image with curl or wget from a server on loopback, and takes only the right bytes."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from holdfast.base.settings import script

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TOOLS = ("curl", "wget", "busybox wget")


class Handler(BaseHTTPRequestHandler):
    """Answers each path in its own way; what it sends without a length ends only when nobody takes it any more."""

    def do_GET(self) -> None:
        match self.path:
            case "/image" | "/other" | "/half":
                told = CONTENT[::-1] if self.path == "/other" else CONTENT
                self._begin(200, len(told))
                self.wfile.write(told[:100_000] if self.path == "/half" else told)
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/image")
                self.end_headers()
            case "/endless":
                self._begin(200, None)
                while True:
                    try:
                        self.wfile.write(bytes(65536))
                    except OSError:
                        return
            case "/silent" | "/slow":
                self._begin(200, len(CONTENT))
                self.wfile.write(CONTENT[:100_000])
                self.wfile.flush()
                while not self.server.over.wait(0.3):  # type: ignore[attr-defined]
                    try:
                        self.wfile.write(b"" if self.path == "/silent" else CONTENT[100_000:100_001])
                    except OSError:
                        return
            case _:
                self._begin(404, 0)

    def _begin(self, status: int, length: int | None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.over = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture(params=TOOLS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a PATH on which there is only this one to fetch with."""
    program, _, applet = request.param.partition(" ")
    found = shutil.which(program)
    if not found:
        pytest.skip(f"no {program} here")
    folder = tmp_path / "bin"
    folder.mkdir()
    subprocess.run([str(shutil.which("busybox")), "--install", "-s", str(folder)], check=True)
    (folder / "wget").unlink()
    (folder / (applet or program)).symlink_to(found)
    return str(folder)


class Origin:
    def __init__(self, folder: Path, shell: list[str], path: str) -> None:
        self.place = folder / "images" / "0123.tar"
        self.place.parent.mkdir()
        self._shell = [str(shutil.which(shell[0])), *shell[1:]]
        self._env = {"PATH": path}

    def command(self, url: str, seconds: int = 60) -> list[str]:
        text = script("origin/fetch.sh")
        told = [str(self.place), str(len(CONTENT)), DIGEST, str(seconds), url]
        return [*self._shell, "-c", text, "fetch.sh", *told]

    def fetch(self, url: str, seconds: int = 60) -> str:
        """Return the last line that it prints."""
        done = subprocess.run(
            self.command(url, seconds), env=self._env, capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode, done.stderr) == (0, "")
        *counts, last = done.stdout.splitlines()
        assert all(count.isdecimal() for count in counts)
        return last

    def start(self, url: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(url), env=self._env, stdout=subprocess.PIPE)

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.place.parent.iterdir()}


@pytest.fixture
def origin(tmp_path: Path, shell: list[str], path: str) -> Origin:
    return Origin(tmp_path, shell, path)


@pytest.mark.parametrize("where", ["/image", "/moved"])
def test_it_fetches_and_checks(origin: Origin, url: str, where: str) -> None:
    assert origin.fetch(f"{url}{where}") == "there"
    assert origin.files() == {"0123.tar": CONTENT}
    assert origin.place.stat().st_mode & 0o777 == 0o600
    # What is there is not fetched again, and what an earlier upload began is not needed any more.
    assert origin.fetch(f"{url}/none") == "there"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("/none", "ended with status "),
        ("/other", "what came is another file (300000 bytes)"),
        ("/endless", "no: "),
    ],
)
def test_what_is_not_the_image_is_not_kept(origin: Origin, url: str, where: str, said: str) -> None:
    assert said in origin.fetch(f"{url}{where}")
    assert origin.files() == {}


def test_a_server_that_is_not_there(origin: Origin) -> None:
    assert "ended with status " in origin.fetch("http://127.0.0.1:1/image")
    assert origin.files() == {}


@pytest.mark.parametrize("where", ["/silent", "/slow"])
def test_it_ends_at_its_deadline_and_keeps_the_beginning(origin: Origin, url: str, where: str) -> None:
    assert origin.fetch(f"{url}{where}", seconds=3) == "no: it takes too long"
    [(name, kept)] = origin.files().items()
    assert name == "0123.tar.part"
    assert len(kept) > 50_000  # curl keeps some for itself
    assert CONTENT.startswith(kept[:100_000])


def test_what_an_upload_began_is_not_replaced(origin: Origin, url: str) -> None:
    part = origin.place.with_name("0123.tar.part")
    part.write_bytes(CONTENT[:200_000])
    assert origin.fetch(f"{url}/slow", seconds=2) == "no: it takes too long"
    assert origin.files() == {"0123.tar.part": CONTENT[:200_000]}
    assert origin.fetch(f"{url}/image") == "there"
    assert origin.files() == {"0123.tar": CONTENT}


def test_it_ends_when_nobody_listens(origin: Origin, url: str) -> None:
    with origin.start(f"{url}/slow") as working:
        assert working.stdout
        working.stdout.readline()
        working.stdout.close()
        assert working.wait(timeout=60) != 0
    ends = time.monotonic() + 30
    while shown := subprocess.run(["pgrep", "-f", f"{url}/slow"], capture_output=True, check=False).stdout:
        assert time.monotonic() < ends, shown
        time.sleep(0.2)
    assert set(origin.files()) == {"0123.tar.part"}


def test_without_curl_and_wget(tmp_path: Path, shell: list[str], url: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    subprocess.run([str(shutil.which("busybox")), "--install", "-s", str(folder)], check=True)
    (folder / "wget").unlink()
    assert Origin(tmp_path, shell, str(folder)).fetch(f"{url}/image") == "no: there is neither curl nor wget"
