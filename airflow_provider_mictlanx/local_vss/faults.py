"""
What the local VSS can be told to do wrong, and when. Pydantic and standard library only.

A fault is one record in a list that changes while the server runs. The places that can misbehave ask the board
(``FaultBoard.take``) whether a fault of their kind matches what they are about to do; nothing else knows of faults.
A new kind is one line in ``PARAMETERS`` and one question at the place that is to misbehave.
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
    # at the peers, whichever router asks
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
    # at the sockets: of the routers, or of the peer that is named
    "status": _REQUEST | {"status", "body", "content_type", "headers"},
    "latency": _REQUEST | {"seconds"},
    "reset": _REQUEST | {"when"},
    "cut_body": _REQUEST | {"at", "clean"},
}
"""The kinds of fault, and which parameters mean something to each."""


HUNG_SECONDS = 120.0
"""How long the real router waits for a hung peer in most requests (seconds)."""

RequestContext = Mapping[str, str | None]
"""What is about to happen, by the names of the parameters that a fault can ask for."""


class Fault(BaseModel):
    """
    One way to misbehave.

    :ivar kind: one of ``PARAMETERS``
    :ivar id: what it is removed by; made up unless given
    :ivar peer: only this peer (``peer-0``); faults at the sockets are the routers' unless a peer is named
    :ivar router: only this router (``router-0``)
    :ivar method: only requests of this method
    :ivar path: only requests with a path (query left out) in which this regular expression is found
    :ivar bucket: only this bucket; ``*`` and ``?`` stand for anything, as in file names
    :ivar key: only this chunk key or ball id, with the same wildcards
    :ivar count: how many times it happens, then never again; unlimited unless given
    :ivar skip: how many matching occasions pass unharmed first
    :ivar probability: of each matching occasion, 0 to 1
    :ivar status: the status to answer instead
    :ivar body: the JSON to answer instead, or a text that is sent as it is
    :ivar content_type: of a body that is a text
    :ivar headers: further headers of that answer
    :ivar seconds: the delay before the request is looked at; of a hung peer: how long a router waits for it
    :ivar when: ``before`` drops the connection before anything was done, ``after`` when all was done but not answered
    :ivar at: after how many bytes of the body it is cut
    :ivar clean: whether a cut body ends as if it were whole, instead of with a dropped connection
    :ivar triggered: how often it happened (told, not set)
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal[
        "peer_down",
        "peer_silent",
        "peer_hung",
        "hide_from_listing",
        "ack_without_storing",
        "refuse_data",
        "accept_wrong_bytes",
        "flip_bit",
        "fail_after_storing",
        "status",
        "latency",
        "reset",
        "cut_body",
    ]
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
    body: Any = Field(default_factory=lambda: {"detail": "A fault that was asked for."})
    content_type: str = "application/json"
    headers: dict[str, str] = Field(default_factory=dict)
    seconds: float = Field(default=1.0, ge=0)
    when: Literal["before", "after"] = "before"
    at: int = Field(default=0, ge=0)
    clean: bool = False
    triggered: int = 0

    _pattern: re.Pattern[str] | None = PrivateAttr(default=None)
    _seen: int = PrivateAttr(default=0)

    @field_validator("path")
    @classmethod
    def _is_a_pattern(cls, path: str | None) -> str | None:
        try:
            re.compile(path or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return path

    @model_validator(mode="after")
    def _says_nothing_that_would_be_ignored(self) -> Self:
        meaningless = self.model_fields_set - PARAMETERS[self.kind] - {"kind", "id", "triggered"}
        if meaningless:
            names = ", ".join(sorted(meaningless))
            raise ValueError(f"a fault of kind {self.kind} has no {names}; it has {_listed(self.kind)}")
        if self.kind == "peer_hung" and "seconds" not in self.model_fields_set:
            self.seconds = HUNG_SECONDS
        self._pattern = re.compile(self.path) if self.path else None
        return self

    def matches(self, context: RequestContext) -> bool:
        """Tell whether the occasion is one that the fault is about; does not count it."""
        exact = (self.peer, "peer"), (self.router, "router"), (self.method and self.method.upper(), "method")
        if any(wanted is not None and context.get(name) != wanted for wanted, name in exact):
            return False
        if self._pattern is not None and not self._pattern.search(context.get("path") or ""):
            return False
        globs = (self.bucket, context.get("bucket")), (self.key, context.get("key"))
        return all(wanted is None or (is_ is not None and fnmatchcase(is_, wanted)) for wanted, is_ in globs)

    def happens(self) -> bool:
        """Count a matching occasion, and tell whether the fault happens on it."""
        if self.count is not None and self.triggered >= self.count:
            return False
        self._seen += 1
        if self._seen <= self.skip or (self.probability < 1 and random.random() >= self.probability):
            return False
        self.triggered += 1
        return True


class FaultBoard:
    """The faults that are switched on; changed and asked on the event loop only."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, fault: Fault) -> None:
        """Switch a fault on; one with the same id is replaced."""
        self._faults[fault.id] = fault

    def remove(self, fault_id: str) -> bool:
        """Switch a fault off; tells whether it was on."""
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Switch every fault off."""
        self._faults.clear()

    def all(self) -> list[Fault]:
        """Give the faults that are on, the oldest first, spent ones included."""
        return list(self._faults.values())

    def state_of(self, peer: str, *kinds: str) -> Fault | None:
        """Return the fault that puts a peer into a lasting state such as ``peer_down``, if any; does not count it."""
        found = (fault for fault in self._faults.values() if fault.kind in kinds and fault.peer in (None, peer))
        return next(found, None)

    def take(self, kind: str, context: RequestContext, *, only_named_peers: bool = False) -> Fault | None:
        """
        Give the fault that happens on this occasion, if any, and count it.

        :param context: what is about to happen: ``peer``, ``router``, ``method``, ``path``, ``bucket``, ``key``
        :param only_named_peers: pass over faults that name no peer
        """
        for fault in self._faults.values():
            if only_named_peers and fault.peer is None:
                continue
            if fault.kind == kind and fault.matches(context) and fault.happens():
                return fault
        return None


def _listed(kind: str) -> str:
    return ", ".join(sorted(PARAMETERS[kind]))
