"""A web server on the loopback that answers range requests, and counts or spoils its answers."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        sent: bytes of bodies by file name.
        fail_from: by file name, the first byte that is never sent: the connection breaks there.
        busy: by file name, how many requests are answered with 503 first.
    """

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: dict[str, int] = {}
        self.fail_from: dict[str, int] = {}
        self.busy: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name = self.path.lstrip("/")
        file = self.server.folder / name
        if self.server.busy.get(name, 0) > 0:
            self.server.busy[name] -= 1
            return self._head(503, 0)
        if not file.is_file():
            return self._head(404, 0)
        content = file.read_bytes()
        first, last = 0, len(content) - 1
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match:
            first, last = int(match[1]), min(int(match[2] or last), last)
        part = content[first : last + 1]
        stop = self.server.fail_from.get(name)
        self._head(206 if match else 200, len(part), f"bytes {first}-{last}/{len(content)}" if match else "")
        if not body:
            return None
        if stop is not None and last >= stop:
            self.wfile.write(part[: max(0, stop - first)])
            self.close_connection = True
            return None
        self.server.sent[name] = self.server.sent.get(name, 0) + len(part)
        self.wfile.write(part)
        return None

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format, *args):
        pass


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    server = RangeServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
