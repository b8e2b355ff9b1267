"""Secrets of a connection are in nothing that anybody sees or keeps: logs, errors, XComs, events, triggers, copies, lineage."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from tests.vss import LocalVSS

TOKEN, HEADER, COOKIE = "tok3n-S3NTINEL-aaaa", "h3ader-S3NTINEL-bbbb/+=", "cook13-S3NTINEL-cccc"
SECRETS = (TOKEN, HEADER, COOKIE)


class _Echo(BaseHTTPRequestHandler):
    """Answers everything with an error that repeats what it was sent, as some proxies' debug pages do."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"detail": f"refused: {seen}", "seen": seen}).encode()
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connection(uri: str) -> str:
    extra = {"uri": uri, "headers": {"X-Api-Key": HEADER, "Cookie": f"session={COOKIE}"}, "timeout": 5}
    return json.dumps({"conn_type": "mictlanx", "password": TOKEN, "extra": extra})


def forms(secret: str) -> set[str]:
    """Give how a secret may look when it has been through something."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        encoded,
        secret[: len(secret) - 4],
        secret.encode().hex(),
    }


def test_no_secret_in_anything_that_is_seen_or_kept(vss: LocalVSS, tmp_path: Path) -> None:
    vss.reset_requests()
    with echo() as port:
        connections = {
            "AIRFLOW_CONN_MICTLANX_DEFAULT": connection(vss.uri),
            "AIRFLOW_CONN_MICTLANX_ECHO": connection(f"mictlanx://r@127.0.0.1:{port}/?protocol=http"),
            "AIRFLOW_CONN_MICTLANX_AWAY": connection("mictlanx://r@127.0.0.1:1/?protocol=http"),
        }
        script = (
            f"import tests.airflow_home, os, runpy; os.environ.update({connections}); "
            "runpy.run_module('tests.integration.security.drive_everything', run_name='__main__')"
        )
        run = subprocess.run(
            [sys.executable, "-", str(tmp_path)], input=script, capture_output=True, text=True, timeout=240
        )
    shown = run.stdout + run.stderr
    assert run.returncode == 0, shown[-3000:]
    [told] = [line for line in run.stdout.splitlines() if line.startswith("DONE ")]
    done = json.loads(told.removeprefix("DONE "))
    assert {"mictlanx_default: put", "mictlanx_default: get", "mictlanx_default: bulk"} <= set(done)
    assert any(what.startswith("mictlanx_echo: put: ") for what in done)
    assert any(what.startswith("mictlanx_away: put: ") for what in done)
    sent = [seen["headers"] for seen in vss.requests("POST", "/buckets/secrets/metadata")]
    assert sent  # they were in use
    assert all("authorization" in headers and headers["x-api-key"] == HEADER for headers in sent)
    for secret in SECRETS:
        for form in forms(secret):
            at = shown.find(form)
            assert at < 0, f"{form} is in: …{shown[max(at - 600, 0) : at + 100]}…"
