"""The pieces of one answer on their way to a sink: gathered, hashed, written, and compared. Knows sinks and threads."""

from __future__ import annotations

import hashlib

from airflow_provider_mictlanx.client.errors import IntegrityError
from airflow_provider_mictlanx.client.sinks import Sink
from airflow_provider_mictlanx.client.threads import Threads

GATHERED = 1024 * 1024
"""Pieces of an answer are hashed and written together, this many bytes at a time, unless it is told otherwise."""


class Gathering:
    """
    The pieces of one answer: hashed and written at their offset, and compared at the end.

    :param offset: where in the sink they begin (bytes)
    :param gathered: how many bytes are hashed and written together
    """

    def __init__(self, sink: Sink, threads: Threads, offset: int = 0, gathered: int = GATHERED) -> None:
        self._sink = sink
        self._threads = threads
        self._start = offset
        self._together = gathered
        self.begin()

    def begin(self) -> Gathering:
        """Forget what another router began to answer."""
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._gathered = 0
        self._written = 0
        return self

    async def take(self, piece: bytes) -> None:
        """Take a piece; that there are no more than there should be is for the caller to see to."""
        self._parts.append(piece)
        self._gathered += len(piece)
        if self._gathered >= self._together:
            await self._flush()

    async def compare(self, whence: str, size: int | None, checksum: str) -> None:
        """
        Write what is left; ``IntegrityError`` where size or SHA-256 is another than it should be.

        :param whence: who gave the bytes, for the error
        :param size: how many it should be (bytes); None where only the checksum is known
        :param checksum: the SHA-256 that it should be, in hex
        """
        await self._flush()
        if size is not None and self._written != size:
            raise IntegrityError(f"{whence} gave {self._written} bytes instead of {size}")
        if self._hash.hexdigest() != checksum:
            raise IntegrityError(f"{whence} gave {self._written} bytes with another SHA-256")

    async def _flush(self) -> None:
        parts, self._parts, size, self._gathered = self._parts, [], self._gathered, 0
        if size:
            await self._threads.run_sized(size, self._keep, parts)

    def _keep(self, parts: list[bytes]) -> None:
        for data in parts:  # one by one: joining them would copy them, into memory that stays with the thread
            self._hash.update(data)
            self._sink.write(self._start + self._written, data)
            self._written += len(data)
