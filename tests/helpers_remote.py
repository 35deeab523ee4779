"""Servers and file systems of URLs for tests: one in memory, and S3 where moto and s3fs are installed."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

S3 = all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask"))
REASON = 'needs a local S3 server: pip install s3fs "moto[server]"'


class Server:
    """An S3 server of moto in another process, which loses everything when it ends.

    Parameters
    ----------
    port : its port; 0 chooses a free one.
    """

    def __init__(self) -> None:
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead s3fs to this server."""
        key = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return key | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_MAX_ATTEMPTS": "1"}

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError("the S3 server did not start")

    def kill(self) -> None:
        """End the server at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def s3_server() -> Iterator[Server]:
    """A running server with the bucket `bucket`, to which this process and its children are led."""
    import fsspec

    server = Server()
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    server.start()
    system = fsspec.get_filesystem_class("s3")
    system.clear_instance_cache()
    try:
        fsspec.filesystem("s3").mkdir("bucket")
        yield server
    finally:
        server.kill()
        system.clear_instance_cache()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def contents(url: str) -> dict[str, bytes]:
    """The bytes of every file at a URL, by relative path, except the record of times."""
    import fsspec

    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    start = f"{root.rstrip('/')}/"
    names = [name for name in system.find(root) if name.startswith(start) and not name.endswith("extraction.json")]
    return {name.removeprefix(start): system.cat_file(name) for name in names}


def write(url: str, content: bytes) -> None:
    """Replace a file at a URL."""
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    system.pipe_file(path, content)


def delete(url: str) -> None:
    """Delete a file or a folder at a URL."""
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    system.rm(path, recursive=True)


def shards_in(folder: Path) -> list[str]:
    """Relative paths of the shards in a folder of this machine."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("shard-*.safetensors"))
