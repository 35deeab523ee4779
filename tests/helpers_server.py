"""A local HTTP server of files that may break off an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server serves, and what was requested of it.

    Parameters
    ----------
    files : content of each file by its name.
    address : the address of the server.
    break_after : the first answer ends after this number of bytes; None to send it completely.
    ranges : the value of the header Range of every request.
    support_ranges : whether the server sends parts.
    """

    files: dict[str, bytes]
    address: str = ""
    break_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    support_ranges: bool = True


@contextmanager
def running(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server inside the context, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """Run the server inside the context."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.ranges.append(wanted)
            content = served.files.get(self.path.partition("?")[0].lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = int(wanted[6:-1]) if wanted and served.support_ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = len(content) if served.break_after is None else start + served.break_after
            served.break_after = None
            self.wfile.write(content[start:end])

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    with running(Handler) as served.address:
        yield served
