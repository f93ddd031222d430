"""Serving a page to this machine alone."""

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attar.errors import AttarError

LOOPBACK = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Be silent about clients that close their connection early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def open_server(page: str, *, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of one page on the loopback interface; its `serve_forever` is up to you.

    Args:
        page: HTML.
        port: 0 takes one that is free; `server_port` of the server tells which.

    Raises:
        AttarError: If the port is taken.
    """
    content = page.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another name that leads here is a trick to make a browser read this for a stranger.
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if self.path != "/" or host not in (LOOPBACK, "localhost"):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            pass

    try:
        return _Server((LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise AttarError(f"cannot serve on port {port}: {error}; try --port 0") from error
