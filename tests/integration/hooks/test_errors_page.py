"""The messages in ``docs/errors.md`` are those that the hook raises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.vss import LocalVSS

PAGE = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
ELSEWHERE = {
    "CertificateError": "needs TLS: tests/integration/security/test_hook_tls.py",
    "DNSResolutionError": "needs a resolver: tests/robustness/faults/disturbances.py",
    "MaxAvailabilityReachedError": "the hook handles it",
    "MictlanXError": "the base class",
}

NUMBER = re.compile(r"\b[\d.]+(?= s\b| bytes| of \d+ objects)| of \d+(?= objects)")


def is_shown(error: MictlanXError) -> bool:
    """Return whether a message is in its section; ``…`` stands for any text, and seconds and counts may differ."""
    shown = re.findall(r"^```\n(.*?)\n```", SECTIONS[type(error).__name__], re.MULTILINE | re.DOTALL)
    patterns = (re.escape(NUMBER.sub("N", message)).replace("…", ".*") for message in shown)
    return any(re.fullmatch(pattern, NUMBER.sub("N", str(error))) for pattern in patterns)


def test_messages_are_those_of_the_page(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    no_retry_waits: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    vss = own_vss(options=("--cache-size", "1B"))  # a cache would return what the peers have lost
    connect(vss, connect_patience=0.1)
    hook = MictlanXHook()
    raised: list[MictlanXError] = []

    def provoke(call: Callable[..., Any], *arguments: Any, fault: Any = None, **options: Any) -> None:
        with fault or nullcontext(), pytest.raises(MictlanXError) as error:
            call(*arguments, **options)
        raised.append(error.value)

    frames, out = tmp_path / "frames", tmp_path / "out"
    for folder in (frames, out):
        folder.mkdir()
        (folder / "report").write_bytes(b"other")
    hook.put("frames", "report", b"one")
    hook.put("frames-2", "report", b"x" * 1000)
    with vss.fault("ack_without_storing", bucket="frames-3"):
        hook.put("frames-3", "report", b"123")

    provoke(hook.put, "my bucket!", "report", b"")
    provoke(hook.put_file, "frames", "report", tmp_path / "report.csv")
    provoke(hook.get, "frames", "2026/a report.csv")
    provoke(hook.put, "frames", "report", b"two")
    provoke(hook.get_to_file, "frames", "report", out)
    provoke(hook.get_to_folder, out, "frames")
    provoke(hook.get, "frames-2", "report", max_tries=1, fault=vss.fault("flip_bit"))
    provoke(hook.get, "frames-3", "report", max_tries=1)
    provoke(hook.find, "frames", "report", fault=vss.fault("status", status=302))
    provoke(
        hook.exists,
        "frames",
        "report",
        fault=vss.fault("status", status=200, body="Login", content_type="text/html"),
    )
    for status in (401, 403, 503):
        provoke(hook.put, "frames-6", "report", b"123", max_tries=1, fault=vss.fault("status", status=status))
    once: dict[str, Any] = {"data": b"123", "max_tries": 1}
    provoke(hook.put, "frames-6", "report", **once, fault=vss.fault("refuse_data"))
    provoke(hook.put, "frames-6", "report", **once, fault=vss.fault("reset"))
    provoke(hook.put, "frames-6", "report", **once, request_timeout=0.1, fault=vss.fault("latency", seconds=0.3))
    provoke(hook.put, "frames-6", "report", **once, deadline=0.1, fault=vss.fault("latency", seconds=0.3))
    provoke(hook.exists, "frames-6", "report", fault=vss.fault("peer_down", peer="peer-0"))
    provoke(hook.put_bulk, "nightly-1", "frames", frames, fault=vss.fault("peer_down", peer="peer-0"))

    mine, theirs = ({"dag_id": "nightly", "run_id": f"{kind}__2026-01-02"} for kind in ("scheduled", "manual"))
    (frames / "b").write_bytes(b"1")
    provoke(hook.put_bulk, "nightly-1", "frames", frames, owner=mine)
    provoke(hook.await_bulk, "nightly-1", timeout=5)
    provoke(hook.put_bulk, "nightly-1", "frames", frames, owner=theirs)
    provoke(hook.put_bulk, "nightly-1", "frames-5", frames, owner=mine)
    (frames / "report").write_bytes(b"one")
    hook.put_bulk("nightly-2", "frames-4", frames)
    (frames / "b").write_bytes(b"2")
    provoke(hook.put_bulk, "nightly-2", "frames-4", frames)

    vss.stop()
    provoke(hook.put, "frames-6", "report", b"1", max_tries=1)
    extra = {"uri": "mictlanx://router-0@127.0.0.1:60666/"}
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", json.dumps({"conn_type": "mictlanx", "extra": extra}))
    provoke(MictlanXHook().get, "frames", "report")
    monkeypatch.delenv("AIRFLOW_CONN_MICTLANX_DEFAULT")
    provoke(MictlanXHook().get, "frames", "report")

    for error in raised:
        text = str(error).replace(f":{vss.port}", ":60666").replace(str(tmp_path), "/data")
        error.amend(re.sub(r"(?<=frames)-\d|(?<=nightly-)\d", lambda found: "1" if found[0].isdigit() else "", text))
    wrong = [f"{type(error).__name__}: {error}" for error in raised if not is_shown(error)]
    assert not wrong, "the page should show:\n" + "\n".join(wrong)
    assert {type(error).__name__ for error in raised} == set(SECTIONS) - set(ELSEWHERE)
