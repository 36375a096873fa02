"""A proxy in front of a server, as hospitals have one: it knows people by a cookie and adds their token."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template

import httpx

from tests.postgresql import skip_or_fail

MISSING = "nginx is not installed, so no proxy is tried: sudo apt-get install nginx"

START_SECONDS = 20.0

SETTINGS = Template("""
daemon off; master_process off; pid $folder/pid; error_log $folder/error.log;
events {}
http {
  access_log off;
  client_body_temp_path $folder/body; proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
  # After the sign-in: who has the cookie has the token.
  map $$cookie_session $$authorization { default ""; $sessions }
  server {
    listen 127.0.0.1:$port;
    client_max_body_size 0;
    location ~ ^/signed-in/([a-z]+)$$ { add_header Set-Cookie "session=$$1; Path=/; HttpOnly"; return 204; }
    location / {
      proxy_pass http://$upstream;
      proxy_set_header Host $host;
      proxy_set_header Authorization $$authorization;
    }
  }
}
""")


@contextmanager
def proxy(upstream: str, tokens: Mapping[str, str], *, keeps_host: bool = True) -> Iterator[int]:
    """A new proxy that runs as long as the block; its port.

    Args:
        upstream: host and port of the server behind it.
        tokens: by the name of the cookie's owner; ``GET /signed-in/NAME`` at the proxy gives the cookie.
        keeps_host: whether it passes on the header Host as it came, as the documentation asks.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip_or_fail(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        sessions = " ".join(f'{person} "Bearer {token}";' for person, token in tokens.items())
        host = "$http_host" if keeps_host else "$proxy_host"
        settings = SETTINGS.substitute(folder=folder, port=port, upstream=upstream, sessions=sessions, host=host)
        (folder / "nginx.conf").write_text(settings)
        command = [str(program), "-p", name, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(port):
                assert process.poll() is None, (folder / "error.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "nginx did not start"
                time.sleep(0.05)
            yield port
        finally:
            process.kill()
            process.wait(20)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/signed-in/nobody").status_code == 204
    except httpx.TransportError:
        return False
