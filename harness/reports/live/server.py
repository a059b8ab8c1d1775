"""A server of one page, for this machine alone.

Two addresses are answered, and neither is the name of a file: the page, and the state that it
asks for. A request must name this machine as its host, so that a site whose name was made to lead
here reads nothing; other sites can neither read nor frame the page.
"""

from __future__ import annotations

import errno
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.errors import HarnessError
from harness.reports.live.runs import LiveRuns
from harness.spec.printable import printable

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
HTML, JSON, TEXT = "text/html", "application/json", "text/plain"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page's own says the rest
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
AGAIN_SECONDS = 3
"""After which a browser asks again for a page that could not be built."""


UNREADABLE = (HarnessError, FileNotFoundError)
"""What ends the reading of runs: something is damaged, or was removed while they were read."""


class Server(ThreadingHTTPServer):
    """Serves `runs` at a port of this machine; 0 takes any that is free.

    Raises `HarnessError` where the port cannot be had. Use as a context manager, which closes it.
    """

    daemon_threads = True

    def __init__(self, runs: LiveRuns, port: int) -> None:
        self.runs = runs
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "taken" if error.errno == errno.EADDRINUSE else "not for every user"
            raise HarnessError(
                f"port {port} is {why}: choose another with --port; 0 takes one that is free"
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no news; anything else is a bug and shows its traceback."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    server_version = "harness"
    sys_version = ""
    timeout = 30  # seconds that a reader may take to say what it wants

    def do_GET(self) -> None:
        """The page at `/`, its state at `/state`, and nothing else."""
        if not self._is_for_us():
            self._answer(HTTPStatus.FORBIDDEN, TEXT, b"this server answers to localhost alone\n")
        elif self.path == "/":
            self._page()
        elif self.path == "/state":
            self._state()
        elif self.path == "/favicon.ico":
            self._answer(HTTPStatus.NO_CONTENT, TEXT, b"")
        else:
            self._answer(HTTPStatus(404), TEXT, b"only / is served\n")

    do_HEAD = do_GET  # noqa: N815 (the library calls it so)

    def _is_for_us(self) -> bool:
        port = self.server.server_port
        ours = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and hosts[0].strip().lower() in ours

    def _page(self) -> None:
        try:
            self._answer(HTTPStatus.OK, HTML, self.server.runs.page())
        except UNREADABLE as error:
            content = f"error: {_reason(error)}\n".encode()
            again = {"Refresh": str(AGAIN_SECONDS)}
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, content, again)

    def _state(self) -> None:
        try:
            state = self.server.runs.state()
        except UNREADABLE as error:
            state = {"error": _reason(error), "seconds": AGAIN_SECONDS}
        self._answer(HTTPStatus.OK, JSON, json.dumps(state).encode())

    def _answer(
        self, status: HTTPStatus, kind: str, content: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line, and hold what strangers wrote."""


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return printable(f"{error.filename} is gone")
    return printable(str(error))
