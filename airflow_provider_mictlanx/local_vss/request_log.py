"""What was asked of the local VSS, for tests that count requests. Standard library only."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True)
class LoggedRequest:
    """
    One request.

    :ivar server: ``router-0`` …, ``peer-0`` …
    :ivar route: the path with names for what varies; ``-`` where nothing answers at it
    :ivar status: 0 where the connection was dropped instead of an answer
    :ivar headers: as they came, but secret ones as the SHA-256 of their value
    :ivar at: when it came, in seconds since 1970
    """

    server: str
    method: str
    path: str
    query: str
    route: str
    status: int
    headers: dict[str, str]
    at: float


class RequestLog:
    """
    The last requests, and counters of all.

    :param length: how many requests are kept
    """

    def __init__(self, length: int = 10_000) -> None:
        self._recent: deque[LoggedRequest] = deque(maxlen=length)
        self.generation = 0
        self.totals: Counter[tuple[str, str, str, int]] = Counter()

    def add(self, logged: LoggedRequest, generation: int) -> None:
        """Note a request; one that came before the last ``clear`` counts in the totals only."""
        if generation == self.generation:
            self._recent.append(logged)
        self.totals[logged.server, logged.method, logged.route, logged.status] += 1

    def clear(self) -> None:
        """Forget every request; the totals of ``/metrics`` go on."""
        self._recent.clear()
        self.generation += 1

    def report(self) -> dict[str, Any]:
        """Give ``counts`` (per method and route) and ``recent`` (the oldest first)."""
        counts = Counter(f"{logged.method} {logged.route}" for logged in self._recent)
        return {
            "total": len(self._recent),
            "counts": dict(counts),
            "recent": [asdict(logged) for logged in self._recent],
        }


def redact_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give a request's headers without its secrets."""
    return {name.decode("latin-1"): _redact_value(name.decode("latin-1"), value) for name, value in headers}


def _redact_value(name: str, value: bytes) -> str:
    return "sha256:" + hashlib.sha256(value).hexdigest() if name in _SECRET else value.decode("latin-1")
