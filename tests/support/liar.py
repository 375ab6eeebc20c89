"""A registry that tells HEAD one thing and GET another, in front of an honest one."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen


class LyingRegistry:
    """Passes on what another registry says, but for what HEAD and GET are to be told of one manifest.

    The first lie need not be one: a tag that moves between the two requests looks the same.
    """

    def __init__(self, truth: str, manifest: str, *, head: str, get: str) -> None:
        answers = {"HEAD": head, "GET": get}

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                path = self.path.replace(f"/manifests/{manifest}", f"/manifests/{answers[self.command]}")
                headers = {
                    key: ", ".join(self.headers.get_all(key, [])) for key in self.headers if key.lower() != "host"
                }
                request = Request(f"http://{truth}{path}", headers=headers, method=self.command)
                try:
                    answer = urlopen(request)
                except HTTPError as error:
                    answer = error
                with answer:
                    self.send_response(answer.status)
                    for key, value in answer.headers.items():
                        if key.lower() not in ("connection", "transfer-encoding"):
                            self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(answer.read())

            do_GET = do_HEAD  # noqa: N815  the name that the server looks for

            def log_message(self, *_: object) -> None:
                """Nothing to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
