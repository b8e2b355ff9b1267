"""The requests that the local VSS received, for tests that count them."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


class RequestLog:
    """
    The last requests, and counters of all.

    :param length: how many requests are kept
    """

    def __init__(self, length: int = 10_000) -> None:
        self._recent: deque[dict[str, Any]] = deque(maxlen=length)
        self.generation = 0
        self.totals: Counter[tuple[str, str, str, int]] = Counter()

    def add(self, generation: int, request: dict[str, Any]) -> None:
        """
        Add a request; one that came before the last ``clear`` counts in the totals only.

        :param generation: the log's when the request came
        :param request: ``server`` (``router-0`` …), ``method``, ``path``, ``query``, ``route`` (the path's pattern;
            ``-`` where nothing answers at it), ``status`` (0 where the connection was dropped), ``headers``, ``at``
            (seconds since 1970)
        """
        if generation == self.generation:
            self._recent.append(request)
        self.totals[request["server"], request["method"], request["route"], request["status"]] += 1

    def clear(self) -> None:
        """Forget every request; the totals of ``/metrics`` go on."""
        self._recent.clear()
        self.generation += 1

    def report(self) -> dict[str, Any]:
        """Return ``counts`` (per method and route) and ``recent`` (the oldest first)."""
        counts = Counter(f"{request['method']} {request['route']}" for request in self._recent)
        return {"total": len(self._recent), "counts": counts, "recent": list(self._recent)}


def redact_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return a request's headers, with the SHA-256 of secret values in their place."""
    redacted = {}
    for name, value in headers:
        text = name.decode("latin-1")
        is_secret = text in _SECRET
        redacted[text] = "sha256:" + hashlib.sha256(value).hexdigest() if is_secret else value.decode("latin-1")
    return redacted
