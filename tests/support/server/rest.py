"""A server with a script: answers the REST calls of one test, and remembers them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Mapping
from typing import Any


class ScriptedServer:
    """Answers `METHOD /path` below /api/v1 with (status, JSON); anything else with 404."""

    def __init__(self, answers: Mapping[str, tuple[int, Any]]) -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, Any]] = []
        self.tokens: set[str] = set()
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                call = f"{self.command} {self.path.removeprefix('/api/v1')}"
                scripted.calls.append((call, body))
                scripted.tokens.add(self.headers.get("Authorization", ""))
                missing = {"error": {"code": "not_found", "message": f"no {call}"}}
                status, answer = scripted.answers.get(call, (404, missing))
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = _answer

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
