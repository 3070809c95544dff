"""An image at a URL: downloaded by a real nix from a loopback server, and accepted only with the right checksum."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, NotTrusted
from holdfast.nixcli.flake import kexec_image
from tests.unit.cases import host

CONTENT = b"an image" * 1000
DIGEST = hashlib.sha256(CONTENT)


class Server(ThreadingHTTPServer):
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        found = self.path.startswith("/kexec.tar")
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_download_is_kept_in_the_store(server: Server, real_nix: Path, tmp_path: Path) -> None:
    path = kexec_image(host(kexec=f"{url(server, '/kexec.tar?token=1')}#sha256={DIGEST.hexdigest()}"), None, tmp_path)
    assert path.name.endswith("-kexec.tar")
    assert (real_nix / path.name).read_bytes() == CONTENT
    assert (tmp_path / "roots" / "image").readlink() == path
    sri = f"sha256-{base64.b64encode(DIGEST.digest()).decode()}"
    assert kexec_image(host(kexec=f"{url(server, '/kexec.tar')}#{sri}"), None, tmp_path) == path
    assert server.asked == ["/kexec.tar?token=1"]  # the second time there is nothing to fetch


@pytest.mark.usefixtures("real_nix")
def test_another_file_is_not_taken(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotTrusted, match="does not have the checksum sha256-") as error:
        kexec_image(host(kexec=f"{url(server, '/kexec.tar')}#sha256={'ab' * 32}"), None, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("real_nix")
def test_url_that_leads_to_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="404"):
        kexec_image(host(kexec=f"{url(server, '/none.tar')}#sha256={'ab' * 32}"), None, tmp_path)
