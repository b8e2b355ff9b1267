"""Secrets of a connection are in nothing that anybody sees or keeps: logs, errors, XComs, events, triggers, copies, lineage."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

from tests.support.public_names import OPERATORS, SENSORS, async_twins, hook_methods
from tests.support.secret_spellings import ENCODERS
from tests.support.vss import LocalVSS

TOKEN, HEADER, COOKIE = "tok3n-S3NTINEL-aaaa", "h3ader-S3NTINEL-bbbb/+=", "cook13-S3NTINEL-cccc"
SECOND, PASTED = "s3cond-S3NTINEL-dddd", "past3d-S3NTINEL-eeee"
SECRETS = (TOKEN, HEADER, COOKIE, SECOND, PASTED)

ASK_NOBODY = {"test_connection", "get_conn", "aget_settings", "cancel"}
"""Methods of the hook that fail at no router, or tell of it by what they return."""

ENDS_OTHERWISE = {
    "conflict": "AirflowFailException",
    "nothing": "NotFoundError",
    "too_late": "AirflowSensorTimeout",
    "copy_to_echo": "BatchError",
    "copy_to_away": "ConnectFailedError",
    **dict.fromkeys(("absent", "absent_keys", "changing", "waiting", "waiting_operator"), "deferred"),
}
"""What is not simply done, with the connection that works."""


class _Echo(BaseHTTPRequestHandler):
    """Answers everything with an error that repeats what it was sent, as some proxies' debug pages do: each time in another spelling."""

    spellings = cycle(ENCODERS.values())

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = {name.lower(): value for name, value in self.headers.items()}
        spell = next(self.spellings)
        told = [spell(seen.get(name, "none")) for name in ("authorization", "x-api-key", "cookie")]
        body = json.dumps({"detail": f"refused: {told}", "seen": seen}).encode()
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


def connection(uri: str, token: str = TOKEN) -> str:
    extra = {
        "uri": uri,
        "headers": {"X-Api-Key": HEADER, "Cookie": f"session={COOKIE}"},
        "timeout": 5,
        "connect_patience": 0,
    }
    return json.dumps({"conn_type": "mictlanx", "password": token, "extra": extra})


def forms(secret: str) -> set[str]:
    """Return the forms that a secret may have after quoting or encoding."""
    return {secret[: len(secret) - 4], *(spell(secret) for spell in ENCODERS.values())}


def drive(vss: LocalVSS, folder: Path) -> str:
    """Run everything, and give what was shown."""
    with echo() as port:
        environment = {
            "AIRFLOW_CONN_MICTLANX_DEFAULT": connection(vss.uri),
            "AIRFLOW_CONN_MICTLANX_SECOND": connection(vss.uri, SECOND),
            "AIRFLOW_CONN_MICTLANX_ECHO": connection(f"mictlanx://r@127.0.0.1:{port}/?protocol=http"),
            "AIRFLOW_CONN_MICTLANX_AWAY": connection("mictlanx://r@127.0.0.1:1/?protocol=http"),
            # With somebody who reads what it collects, without whom the collector keeps nothing.
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "console"}),
        }
        script = (
            f"import tests.support.airflow_home, os, runpy; os.environ.update({environment}); "
            "runpy.run_module('tests.integration.security.drive_everything', run_name='__main__')"
        )
        run = subprocess.run(
            [sys.executable, "-", str(folder), PASTED], input=script, capture_output=True, text=True, timeout=240
        )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    return run.stdout + run.stderr


def said(shown: str) -> dict[str, tuple[str, str]]:
    """Return the output of each part, and its outcome: done, deferred, or the name of an error."""
    found = re.findall(r"^BEGIN (.*)\n((?:.*\n)*?)END (\w+)$", shown, re.MULTILINE)
    assert len({what for what, _, _ in found}) == len(found) == shown.count("\nBEGIN ") + shown.startswith("BEGIN ")
    return {what: (text, outcome) for what, text, outcome in found}


def speaks_for_itself(text: str) -> bool:
    """Return whether the part itself, or the client below it, logged a line."""
    return any(line and not line.startswith("== ") and "Using selector" not in line for line in text.splitlines())


def check_what_was_driven(driven: dict[str, tuple[str, str]]) -> None:
    """Nothing is left out, everything said something, and went as it had to."""
    things = {tuple(what.split()[:2]) for what in driven}
    classes = {"MictlanXHook", *(kind.__name__ for kind in (*OPERATORS, *SENSORS))}
    connections = {"mictlanx_default", "mictlanx_echo", "mictlanx_away"}
    assert things == {(conn_id, kind) for conn_id in connections for kind in classes} | {("-", "assets")}
    for what, (text, outcome) in driven.items():
        conn_id, kind, name, *rest = what.split()
        assert "== result: " in text or "== error: " in text or "== trigger: " in text, what
        if rest or kind == "assets":
            assert outcome == ("ValueError" if name == "sanitize_uri_of_a_router" else "done"), what
            continue
        assert speaks_for_itself(text) or name in ASK_NOBODY, what
        if conn_id == "mictlanx_default":
            assert outcome == ENDS_OTHERWISE.get(name, "done"), what
        else:
            assert (outcome == "done") == (name in ASK_NOBODY), what


READ_NO_OBJECT = {
    "MictlanXListOperator",
    "MictlanXAwaitBulkOperator",
    "MictlanXSweepOperator",
    "MictlanXDeleteBulkOperator",
}
"""Operators that neither read, write nor delete an object."""


def check_openlineage(driven: dict[str, tuple[str, str]]) -> None:
    """Every operator that did something tells of it."""
    for what, (text, _) in driven.items():
        conn_id, kind, name, *rest = what.split()
        if (
            rest == ["openlineage"]
            and conn_id == "mictlanx_default"
            and ENDS_OTHERWISE.get(name) in (None, "BatchError")
        ):
            silent = kind in READ_NO_OBJECT
            assert ("namespace='mictlanx://secrets" in text) != silent, what


def check_lineage(shown: str, folder: Path) -> None:
    """What was collected is what was read and written through the connection that works, and that no more than once each."""
    [told] = [line.removeprefix("LINEAGE ") for line in shown.splitlines() if line.startswith("LINEAGE ")]
    collected = json.loads(told)
    bucket, copies = "mictlanx://secrets", "mictlanx://secrets-copied"
    hook = {f"{bucket}/hook/text", f"{bucket}/hook/file", f"{bucket}/hook"}
    files = {f"file://{folder}", f"file://{folder}/file"}
    assert set(collected["read"]) == {*files, *hook, f"{bucket}/key", f"{bucket}/k", f"{bucket}/"}
    assert set(collected["written"]) == {
        *(f"{bucket}/hook/text", f"{bucket}/hook/file", f"{bucket}/", f"{bucket}/key"),
        *(f"{copies}/{name}" for name in ("hook/text", "hook", "copy", "k", "second", "in")),
        *(f"file://{folder}/{name}" for name in ("out/file", "out", "got/key", "many")),
    }


def test_no_secret_in_anything_that_is_seen_or_kept(vss: LocalVSS, tmp_path: Path) -> None:
    vss.reset_requests()
    shown = drive(vss, tmp_path)
    driven = said(shown)
    check_what_was_driven(driven)
    check_openlineage(driven)
    check_lineage(shown, tmp_path)
    hook_calls = {what.split()[2] for what in driven if what.startswith("mictlanx_default MictlanXHook ")}
    assert hook_calls == hook_methods() - async_twins() | {"open_client"}
    check_they_were_in_use(vss)
    for secret in SECRETS:
        for form in forms(secret):
            at = shown.find(form)
            assert at < 0, f"{form} is in: …{shown[max(at - 600, 0) : at + 100]}…"


def check_they_were_in_use(vss: LocalVSS) -> None:
    tokens = set()
    for bucket in ("secrets", "secrets-copied"):
        sent = [seen["headers"] for seen in vss.requests("POST", f"/buckets/{bucket}/metadata")]
        assert all("authorization" in headers and headers["x-api-key"] == HEADER for headers in sent)
        tokens |= {headers["authorization"] for headers in sent}
    assert len(tokens) == 2  # of the two connections, however the local VSS hides them
