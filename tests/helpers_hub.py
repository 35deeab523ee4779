"""A local stand-in for the Hugging Face hub, which the real client downloads from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from helpers_server import running


@dataclass
class Hub:
    """What the hub has, and what was downloaded from it.

    Parameters
    ----------
    files : content of each file by its path, "OWNER/NAME/resolve/REVISION/FILE".
    address : the address of the hub.
    fetched : paths of the files that were downloaded, in order.
    """

    files: dict[str, bytes]
    address: str = ""
    fetched: list[str] = field(default_factory=list)


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Run the hub inside the context."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            if (content := self._answer()) is not None:
                hub.fetched.append(self._path)
                self.wfile.write(content)

        @property
        def _path(self) -> str:
            return self.path.partition("?")[0].lstrip("/")

        def _answer(self) -> bytes | None:
            content = hub.files.get(self._path)
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            self.send_response(200)
            self.send_header("X-Repo-Commit", self._path.split("/")[3])
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    with running(Handler) as hub.address:
        yield hub


def run_with(hub: Hub, home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Execute Python code in a process of its own, in which the client of the hub uses this hub.

    Parameters
    ----------
    hub : the hub, which is running.
    home : folder in which the client stores what it downloads.
    code, arguments : the code, and its command-line arguments.
    """
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
