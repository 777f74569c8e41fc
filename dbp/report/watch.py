"""Show a report in a browser while its runs go on, by a server that this machine alone can reach."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dbp.errors import UserError

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")  # by which a browser may ask: not by a name of a page elsewhere that leads here
LAST_PORT = 65535
REFRESH_SECONDS = 5
LINGER_SECONDS = 30.0  # after the end of the runs, for a browser that comes for the last page
POLL_SECONDS = 0.5
REQUEST_SECONDS = 10.0  # until a client that says nothing is left alone


class ReportServer:
    """A server of one page on the loopback address, as a context manager.

    Args:
        render: returns the page, and whether all runs have ended, so that it is the last one.
        port: its port; 0 for any free one.

    Raises:
        UserError: the port is in use, or needs another user.
    """

    def __init__(self, render: Callable[[], tuple[str, bool]], port: int):
        self._render, self._lock = render, threading.Lock()
        self._page, self._is_last, self._made, self._last_shown = "", False, 0.0, threading.Event()
        if not 0 <= port <= LAST_PORT:
            raise UserError(f"--port must be from 0 to {LAST_PORT}, but is {port}")
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), self._handler())
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise UserError(
                f"port {port} {reason}; choose another with --port, or any free one with --port 0"
            ) from None
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Return the address for a browser."""
        return f"http://{LOOPBACK}:{self._server.server_port}/"

    def __enter__(self) -> ReportServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": POLL_SECONDS}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Wait until all runs have ended and a browser has the last page, or none has come for it for a while."""
        ended = None
        while not self._last_shown.wait(POLL_SECONDS):
            _, is_last = self.page()
            now = time.monotonic()
            ended = (ended or now) if is_last else None
            if ended is not None and now - ended > LINGER_SECONDS:
                return

    def page(self) -> tuple[str, bool]:
        """Return the page, at most REFRESH_SECONDS old, and whether it is the last one."""
        with self._lock:
            if not self._page or time.monotonic() - self._made >= REFRESH_SECONDS:
                self._page, self._is_last = self._render()
                self._made = time.monotonic()
            return self._page, self._is_last

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Answers requests for the page."""

            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:
                """Send the page."""
                host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
                if host not in HOSTS:
                    self.send_error(HTTPStatus.FORBIDDEN)
                elif self.path != "/":
                    self.send_error(HTTPStatus.NOT_FOUND)
                else:
                    page, is_last = server.page()
                    self._send(page.encode())
                    if is_last:
                        server._last_shown.set()

            def _send(self, content: bytes) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler
