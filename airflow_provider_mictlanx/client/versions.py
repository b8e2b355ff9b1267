"""
Group the announced chunks of a listing into the versions of a ball.

A *version* is a ``full_checksum``, a number of chunks, and every chunk's size and checksum. Chunks of two versions
never belong together. The same bytes in another chunk layout are another version (protocol page, *Reading*).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter

from airflow_provider_mictlanx.client.errors import UpstreamProtocolError
from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.client.object_ids import original_key

ObjectRow = tuple[str, str]
"""Ball id and own key (``Metadata.own_key``, empty for a ball) of a listed object."""


@dataclass(frozen=True)
class Version:
    """
    The listed chunks of one version of a ball.

    :ivar checksum: SHA-256 of the ball; None if its writer did not record it
    :ivar num_chunks: number of chunks; if its writer did not record it, the number of listed chunks
    :ivar chunks: the listed chunks by index, one replica's metadata each
    """

    bucket_id: str
    ball_id: str
    checksum: str | None
    num_chunks: int
    chunks: dict[int, Metadata] = field(repr=False)

    @cached_property
    def is_complete(self) -> bool:
        """Return whether every chunk is listed; its data may still be missing."""
        return all(index in self.chunks for index in range(self.num_chunks))

    @property
    def is_recorded(self) -> bool:
        """Return whether its writer recorded its checksum and number of chunks; else only the listing shows them."""
        return self.checksum is not None and self.ordered[0].num_chunks is not None

    @property
    def own_key(self) -> str:
        """The key of an object with a key of its own (``Metadata.own_key``); empty for a ball."""
        return self.ordered[0].own_key

    @cached_property
    def updated_at(self) -> int:
        """Time of the newest announcement (nanoseconds since 1970)."""
        return max(chunk.updated_at for chunk in self.chunks.values())

    @cached_property
    def begun_at(self) -> int:
        """Time of the oldest announcement (nanoseconds since 1970)."""
        return min(chunk.updated_at for chunk in self.chunks.values())

    @cached_property
    def size(self) -> int:
        """Total size of the listed chunks (bytes); the ball's size if the version is complete."""
        return sum(chunk.size for chunk in self.chunks.values())

    @cached_property
    def ordered(self) -> list[Metadata]:
        """The listed chunks, ordered by index."""
        return [self.chunks[index] for index in sorted(self.chunks)]

    @property
    def filters(self) -> str:
        """See ``read_filters``."""
        return read_filters(self.ordered)

    @classmethod
    def from_ball(cls, ball: Ball) -> Version:
        """Return the version that a listed ball was made of (``as_ball``)."""
        chunks = {chunk.index: chunk for chunk in ball.chunks}
        return cls(ball.bucket_id, ball.ball_id, ball.checksum or None, len(ball.chunks), chunks)

    def tail(self, first: int) -> Version:
        """Return the version without the chunks before ``first``; its checksum is None, since no tag records it."""
        rest = {index: chunk for index, chunk in self.chunks.items() if index >= first}
        return replace(self, checksum=None, chunks=rest) if first else self

    def as_ball(self) -> Ball:
        """Return a complete version as a ball."""
        chunks = self.ordered
        return Ball(
            bucket_id=self.bucket_id,
            ball_id=self.ball_id,
            chunks=chunks,
            checksum=self.checksum or "",
            size=self.size,
            key=listed_key(chunks[0]),
            updated_at=self.updated_at,
        )


def read_filters(chunks: Iterable[Metadata]) -> str:
    """Return the filters that a newer client applied to the bytes, such as compression; empty for plain bytes."""
    return next((tag for chunk in chunks if (tag := chunk.tags.get("mictlanx_filters", "")) not in ("", "[]")), "")


def filtered_error(action: str, filters: str) -> UpstreamProtocolError:
    """Build the error for a read of bytes with filters."""
    return UpstreamProtocolError(
        f"{action} failed: a newer client stored its bytes with the filters {filters}, which this client cannot "
        "reverse; read it with that client",
        transient=False,
        permanent=True,
    )


def listed_key(chunk: Metadata) -> str:
    """Return the key of a listed chunk's object, as its writer used it."""
    return chunk.own_key or original_key(chunk.ball_id, chunk.tags)


def plain_checksum(ball: Ball) -> str:
    """
    Return the SHA-256 of a listed ball's bytes, in hex; empty if it is unknown, or its writer transformed the bytes.

    A ball of one chunk may only have that chunk's checksum.
    """
    if read_filters(ball.chunks[:1]):
        return ""
    return ball.checksum or (ball.chunks[0].checksum if ball.num_chunks == 1 else "")


def group_by_object(listing: Iterable[Metadata]) -> dict[ObjectRow, list[Metadata]]:
    """Group the chunks of a bucket's listing by ball id and own key."""
    objects: defaultdict[ObjectRow, list[Metadata]] = defaultdict(list)
    for chunk in listing:
        objects[chunk.ball_id, chunk.own_key].append(chunk)
    return dict(objects)


def group_versions(chunks: Iterable[Metadata]) -> list[Version]:
    """
    Group the announced chunks of one object into versions: complete ones first, then the newest first.

    Replicas may repeat, and indexes come in any order. Chunks without an index are left out, since no reader could
    place them.
    """
    groups: defaultdict[tuple[str | None, int | None], list[tuple[int, int, Metadata]]] = defaultdict(list)
    for chunk in chunks:
        index, num_chunks = chunk.index, chunk.num_chunks  # read once: they are parsed from the tags
        if index >= 0 and (num_chunks is None or index < num_chunks):
            groups[chunk.full_checksum, num_chunks].append((chunk.updated_at, index, chunk))
    versions = [version for group in groups.values() for version in _versions_in_group(group)]
    if len(versions) == 1:
        return versions
    # If two end with the same chunk, the one that began later does not mix chunks of an older layout.
    return sorted(versions, key=lambda v: (v.is_complete, v.updated_at, v.begun_at), reverse=True)


def _versions_in_group(group: list[tuple[int, int, Metadata]]) -> list[Version]:
    """
    Group chunks with the same ball checksum and number of chunks by chunk layout.

    No tag names the layout. Chunks of the same size belong together; otherwise the newest chunks of each index do, and
    the oldest. A wrong guess costs a reader one verification, but never returns wrong bytes.

    :param group: the chunks with their times and indexes
    """
    by_index: defaultdict[int, dict[tuple[int, str], Metadata]] = defaultdict(dict)
    for _, index, chunk in sorted(group, key=itemgetter(0)):
        by_index[index][chunk.size, chunk.checksum] = chunk
    first = min(by_index)
    if all(len(candidates) == 1 for candidates in by_index.values()):  # one layout
        return [_chain(by_index, start, newest=True) for start in by_index[first].values()]
    found: dict[tuple[tuple[int, str], ...], Version] = {}
    for newest in (True, False):
        for start in by_index[first].values():
            version = _chain(by_index, start, newest)
            found.setdefault(tuple((chunk.size, chunk.checksum) for chunk in version.ordered), version)
    return list(found.values())


def _chain(by_index: dict[int, dict[tuple[int, str], Metadata]], start: Metadata, newest: bool) -> Version:
    chunks: dict[int, Metadata] = {}
    for index, candidates in by_index.items():
        choice = list(candidates.values())
        alike = [chunk for chunk in choice if chunk.size == start.size] or choice
        chunks[index] = alike[-1 if newest else 0]
    chunks[start.index] = start
    return Version(
        bucket_id=start.bucket_id,
        ball_id=start.ball_id,
        checksum=start.full_checksum,
        num_chunks=start.num_chunks or max(chunks) + 1,
        chunks=chunks,
    )
