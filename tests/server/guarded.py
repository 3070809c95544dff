"""A front door before a Prefect server, as a reverse proxy is one: it wants a password."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def guarded(api: str, login: str) -> Iterator[str]:
    """Lend the address of an API that wants `user:password`, and is this one behind it."""
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}"

    class Door(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            path = self.path.removeprefix("/api")
            answer = httpx.request(
                self.command, f"{api}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = _pass_on  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.server_address[1]}/api"
    finally:
        door.shutdown()
        door.server_close()
