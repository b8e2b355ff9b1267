"""The recorded exchanges with the real router service, replayed: same statuses, same bodies."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

TRANSCRIPT = json.loads(Path(__file__).with_name("router-v4-transcript.json").read_text())
RECORDED_PEER_PORT = 25000


class Replay:
    """Sends the recorded requests in their order, and compares the answers."""

    def __init__(self, url: str, first_peer_port: int) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, verify=False)
        self._port_offset = first_peer_port - RECORDED_PEER_PORT
        self._tasks: dict[str, str] = {}

    def step(self, step: dict[str, Any]) -> None:
        request, expected = step["request"], step["response"]
        answer = self._client.request(
            request["method"],
            self._with_tasks(request["path"]),
            params=request.get("params"),
            headers=request.get("headers"),
            **self._body(request),
        )
        assert answer.status_code == expected["status"], answer.text
        if "learns_task" in step:
            (self._tasks[step["learns_task"]],) = answer.json()["tasks_ids"]
        if "json" in expected:
            assert answer.headers["content-type"] == "application/json"
            self._same(answer.json(), expected["json"], step["title"])
        if "content_b64" in expected:
            assert answer.content == base64.b64decode(expected["content_b64"])
            assert answer.headers["content-type"] == expected["content_type"]
            assert answer.headers.get("content-disposition") == expected.get("content_disposition")
            assert "content-length" not in answer.headers
        if set(expected) == {"status"}:
            assert answer.content == b""

    def _body(self, request: dict[str, Any]) -> dict[str, Any]:
        if "json" in request:
            return {"json": request["json"]}
        if "content_b64" in request:
            return {"content": base64.b64decode(request["content_b64"])}
        if "multipart" in request:
            parts = request["multipart"].items()
            return {
                "files": {
                    name: (part["filename"], base64.b64decode(part["content_b64"]), part["content_type"])
                    for name, part in parts
                }
            }
        return {}

    def _with_tasks(self, text: str) -> str:
        return re.sub(r"{{task:(\w+)}}", lambda match: self._tasks[match[1]], text)

    def _same(self, answer: Any, expected: Any, where: str) -> None:
        if isinstance(expected, dict):
            assert isinstance(answer, dict), where
            assert list(answer) == list(expected), where
            for name, value in expected.items():
                self._same(answer[name], value, f"{where}.{name}")
        elif isinstance(expected, list):
            assert len(answer) == len(expected), where
            for position, value in enumerate(expected):
                self._same(answer[position], value, f"{where}[{position}]")
        elif expected == "<int>":
            assert int(answer) >= 0, where
        elif expected == "<peer>":
            assert re.fullmatch(r"peer-\d", answer), where
        elif where.endswith(".port"):
            assert answer == expected + self._port_offset, where
        elif isinstance(expected, str):
            assert answer == self._with_tasks(expected), where
        else:
            assert type(answer) is type(expected), where
            assert answer == expected, where


@pytest.mark.parametrize("router", [0, 1])
def test_transcript_replays(own_vss, router: int) -> None:
    vss = own_vss(routers=2)
    replay = Replay(vss.url(router), vss.peer_port())
    for step in TRANSCRIPT["steps"]:
        replay.step(step)
