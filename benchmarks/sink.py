"""nginx as a sink that answers 201 to everything, on a free loopback port, with its files in a folder of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

CONFIG = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 201 '{{"ok": true}}'; }}
  }}
}}
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


@contextmanager
def nginx() -> Iterator[str]:
    """The sink's URL while it runs. Exits with the package to install where nginx is missing."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx-light")
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port))
        command = [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
        with subprocess.Popen(command) as process:
            try:
                _wait(port)
                yield f"http://127.0.0.1:{port}/orders"
            finally:
                process.terminate()
                process.wait()


def _wait(port: int) -> None:
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        with closing(socket.socket()) as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")
