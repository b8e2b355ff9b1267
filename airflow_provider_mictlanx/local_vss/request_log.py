"""Log of the received requests, for tests that count them."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


class RequestLog:
    """The latest requests, and counters of all requests."""

    def __init__(self) -> None:
        self._recent: deque[dict[str, Any]] = deque(maxlen=10_000)
        self.generation = 0
        self.totals: Counter[tuple[str, str, str, int]] = Counter()

    def add(self, generation: int, request: dict[str, Any]) -> None:
        """
        Add a request; one that arrived before the last ``clear`` counts in the totals only.

        :param generation: generation of the log when the request arrived
        :param request: ``server`` (``router-0`` …), ``method``, ``path``, ``query``, ``route`` (pattern of the path;
            ``-`` for an unknown path), ``status`` (0 for a dropped connection), ``headers``, ``at`` (epoch seconds)
        """
        if generation == self.generation:
            self._recent.append(request)
        self.totals[request["server"], request["method"], request["route"], request["status"]] += 1

    def clear(self) -> None:
        """Clear the list of requests, but not the totals of ``/metrics``."""
        self._recent.clear()
        self.generation += 1

    def report(self) -> dict[str, Any]:
        """Return ``total``, ``counts`` (by method and route) and ``recent`` (the oldest first)."""
        counts = Counter(f"{request['method']} {request['route']}" for request in self._recent)
        return {"total": len(self._recent), "counts": counts, "recent": list(self._recent)}


def redact_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of a request, with secret values replaced by their SHA-256."""
    redacted = {}
    for name, value in headers:
        text = name.decode("latin-1")
        is_secret = text in _SECRET
        redacted[text] = "sha256:" + hashlib.sha256(value).hexdigest() if is_secret else value.decode("latin-1")
    return redacted
