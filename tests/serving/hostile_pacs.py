"""A server of studies that sends whatever a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What is answered: the body in pieces, and headers."""

    body: bytes | Iterable[bytes] = b"[]"
    kind: str | None = "application/dicom+json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class HostilePacs:
    """The server.

    Attributes:
        address: its root.
        reply: to every request.
        asked: addresses that were asked for, as they came.
    """

    address: str
    reply: Reply = field(default_factory=Reply)
    asked: list[str] = field(default_factory=list)


@contextmanager
def hostile_pacs() -> Iterator[HostilePacs]:
    """A server that runs as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pacs.asked.append(self.path)
            reply = pacs.reply
            self.send_response(reply.status)
            if reply.kind is not None:
                self.send_header("Content-Type", reply.kind)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.end_headers()
            # Who has had enough hangs up.
            with suppress(OSError):
                for piece in [reply.body] if isinstance(reply.body, bytes) else reply.body:
                    self.wfile.write(piece)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        pacs = HostilePacs(f"http://127.0.0.1:{server.server_port}/dicom-web")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield pacs
        finally:
            server.shutdown()
