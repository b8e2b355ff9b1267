"""
Faults that the local VSS can inject.

A fault is a record that is switched on and off while the server runs. The code that can fail asks ``FaultBoard.take``
for a matching fault; no other code knows of faults. A new kind needs one line in ``PARAMETERS`` and one such call.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

_WHEN = frozenset({"count", "skip", "probability"})
_REPLICA = frozenset({"peer", "bucket", "key"}) | _WHEN
_REQUEST = frozenset({"peer", "router", "method", "path", "bucket", "key"}) | _WHEN

PARAMETERS: dict[str, frozenset[str]] = {
    # at the peers, for every router
    "peer_down": frozenset({"peer"}),
    "peer_silent": frozenset({"peer"}),
    "peer_hung": frozenset({"peer", "seconds"}),
    "hide_from_listing": frozenset({"peer"}),
    "ack_without_storing": _REPLICA,
    "refuse_data": _REPLICA,
    "accept_wrong_bytes": _REPLICA,
    "flip_bit": _REPLICA,
    # at the routers
    "fail_after_storing": _REPLICA - {"peer"},
    # at the sockets of the routers, or of the named peer
    "status": _REQUEST | {"status", "body", "content_type", "headers"},
    "latency": _REQUEST | {"seconds"},
    "reset": _REQUEST | {"when"},
    "cut_body": _REQUEST | {"at", "clean"},
}
"""Parameters of each kind of fault."""


HUNG_SECONDS = 300.0
"""Longest time that the real router waits for a hung peer in a request (seconds)."""

RequestContext = Mapping[str, str | None]
"""The request or replica that a fault is matched with: values by name of parameter."""


class Fault(BaseModel):
    """
    One fault that is switched on.

    :ivar kind: one of ``PARAMETERS``
    :ivar id: id of the fault; random by default
    :ivar peer: only this peer (``peer-0``); faults at the sockets affect routers unless a peer is named
    :ivar router: only this router (``router-0``)
    :ivar method: only requests with this method
    :ivar path: only requests whose path (without query) contains a match of this regular expression
    :ivar bucket: only this bucket; ``*`` and ``?`` are wildcards, as in file names
    :ivar key: only this chunk key or ball id, with the same wildcards
    :ivar count: maximum number of times that it happens; None = no limit
    :ivar skip: number of matching requests that succeed first
    :ivar probability: probability for each matching request, 0 to 1
    :ivar status: HTTP status of the injected answer
    :ivar body: JSON of the injected answer, or a string that is sent unchanged
    :ivar content_type: content type of a body that is a string
    :ivar headers: further headers of the injected answer
    :ivar seconds: delay before the request is handled; for a hung peer, the longest time that a router waits for it
    :ivar when: ``before`` drops the connection before the request is handled, ``after`` before the answer is sent
    :ivar at: number of bytes after which the body is cut
    :ivar clean: end a cut body as if it were complete, instead of dropping the connection
    :ivar triggered: number of times that it happened; set by the server
    """

    model_config = ConfigDict(extra="forbid")

    kind: str
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12], pattern=r"^[A-Za-z0-9_-]+$")
    peer: str | None = None
    router: str | None = None
    method: str | None = None
    path: str | None = None
    bucket: str | None = None
    key: str | None = None
    count: int | None = Field(default=None, ge=1)
    skip: int = Field(default=0, ge=0)
    probability: float = Field(default=1.0, gt=0, le=1)
    status: int = Field(default=503, ge=200, le=599)
    body: Any = Field(default_factory=lambda: {"detail": "An injected fault."})
    content_type: str = "application/json"
    headers: dict[str, str] = Field(default_factory=dict)
    seconds: float = Field(default=1.0, ge=0)
    when: Literal["before", "after"] = "before"
    at: int = Field(default=0, ge=0)
    clean: bool = False
    triggered: int = 0

    _seen: int = PrivateAttr(default=0)

    @field_validator("path")
    @classmethod
    def _check_pattern(cls, path: str | None) -> str | None:
        try:
            re.compile(path or "")
        except re.error as error:
            raise ValueError(f"path must be a regular expression, got {path!r}: {error}") from error
        return path

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if self.kind not in PARAMETERS:
            raise ValueError(f"kind must be one of {', '.join(PARAMETERS)}, got {self.kind!r}")
        known = PARAMETERS[self.kind]
        if meaningless := self.model_fields_set - known - {"kind", "id", "triggered"}:
            names, allowed = ", ".join(sorted(meaningless)), ", ".join(sorted(known))
            raise ValueError(f"parameters of a fault of kind {self.kind} must be among {allowed}, got {names}")
        if self.kind == "peer_hung" and "seconds" not in self.model_fields_set:
            self.seconds = HUNG_SECONDS
        return self

    def matches(self, context: RequestContext) -> bool:
        """Return whether the fault matches, without counting."""
        exact = {"peer": self.peer, "router": self.router, "method": self.method and self.method.upper()}
        globs = {"bucket": self.bucket, "key": self.key}
        return (
            all(wanted in (None, context.get(name)) for name, wanted in exact.items())
            and (self.path is None or re.search(self.path, context.get("path") or "") is not None)
            and all(wanted is None or _fits(wanted, context.get(name)) for name, wanted in globs.items())
        )

    def happens(self) -> bool:
        """Count a match, and return whether the fault happens now."""
        if self.count is not None and self.triggered >= self.count:
            return False
        self._seen += 1
        if self._seen <= self.skip or (self.probability < 1 and random.random() >= self.probability):
            return False
        self.triggered += 1
        return True


def _fits(pattern: str, name: str | None) -> bool:
    return name is not None and fnmatchcase(name, pattern)


class FaultBoard(dict[str, Fault]):
    """The faults that are switched on, by id, the oldest first. Use it on the event loop only."""

    def peer_state(self, peer: str, *kinds: str) -> Fault | None:
        """Return the fault that puts a peer into a state such as ``peer_down``, or None. It is not counted."""
        found = (fault for fault in self.values() if fault.kind in kinds and fault.peer in (None, peer))
        return next(found, None)

    def take(self, kind: str, context: RequestContext, *, only_named_peers: bool = False) -> Fault | None:
        """
        Return the fault that happens now, and count it; None if no fault matches.

        :param context: ``peer``, ``router``, ``method``, ``path``, ``bucket`` and ``key``, as far as known
        :param only_named_peers: ignore faults that name no peer
        """
        for fault in self.values():
            if only_named_peers and fault.peer is None:
                continue
            if fault.kind == kind and fault.matches(context) and fault.happens():
                return fault
        return None
