"""An OpenID Connect issuer on loopback, with keys of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

AUDIENCE = "label-refinery"


class LocalIssuer:
    """Publishes its keys and signs tokens; ``asked`` counts how often its keys were fetched."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {
            "RS256": RSAKey.generate_key(2048, {"kid": "rsa-1"}),
            "ES256": ECKey.generate_key("P-256", {"kid": "ec-1"}),
        }
        self.more_keys: list[dict[str, Any]] = []
        self.status = 200
        self.asked = 0
        self.address = ""

    def replies(self) -> dict[str, Any]:
        """What it publishes."""
        keys = [key.as_dict(private=False) for key in self.keys.values()] + self.more_keys
        return {
            "/.well-known/openid-configuration": {"issuer": self.address, "jwks_uri": f"{self.address}/keys"},
            "/keys": {"keys": keys},
        }

    def claims(self, **other: Any) -> dict[str, Any]:
        """Claims of a good token; a value ``None`` leaves a claim out."""
        good = {
            "iss": self.address, "aud": AUDIENCE, "exp": int(time.time()) + 300, "iat": int(time.time()),
            "sub": "1234", "preferred_username": "dr.kim", "roles": ["expert"],
        }  # fmt: skip
        return {name: value for name, value in {**good, **other}.items() if value is not None}

    def token(self, algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        """A token; good unless something else is asked for."""
        key = key or self.keys[algorithm]
        return jwt.encode({"alg": algorithm, "kid": key.kid}, self.claims(**claims), key, algorithms=[algorithm])


@contextmanager
def issuing() -> Iterator[LocalIssuer]:
    """A running issuer."""
    issuer = LocalIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += self.path == "/keys"
            content = json.dumps(issuer.replies().get(self.path)).encode()
            self.send_response(issuer.status if content != b"null" else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
