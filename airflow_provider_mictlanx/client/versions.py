"""
What a listing means: announced chunks → the versions of a ball. Pure functions; knows the models only.

A *version* is a ``full_checksum``, a number of chunks and every chunk's size and checksum, together. Chunks of two
versions never belong together, and the same bytes cut differently are another version (protocol page, *Reading*).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.client.object_ids import original_key

FILTERS_TAG = "mictlanx_filters"


@dataclass(frozen=True)
class Version:
    """
    One version of a ball, as far as it is listed.

    :ivar checksum: SHA-256 of the whole; None where its writer did not say
    :ivar num_chunks: how many chunks it has; where its writer did not say: how many are listed
    :ivar chunks: the listed chunks by index, one replica's metadata each
    """

    bucket_id: str
    ball_id: str
    checksum: str | None
    num_chunks: int
    chunks: dict[int, Metadata] = field(repr=False)

    @cached_property
    def is_complete(self) -> bool:
        """Whether every chunk is listed; its data may be missing all the same."""
        return all(index in self.chunks for index in range(self.num_chunks))

    @cached_property
    def updated_at(self) -> int:
        """When its newest chunk was announced (nanoseconds since 1970)."""
        return max(chunk.updated_at for chunk in self.chunks.values())

    @cached_property
    def begun_at(self) -> int:
        """When its oldest chunk was announced (nanoseconds since 1970)."""
        return min(chunk.updated_at for chunk in self.chunks.values())

    @cached_property
    def size(self) -> int:
        """Bytes of the listed chunks together: the ball's size where the version is whole."""
        return sum(chunk.size for chunk in self.chunks.values())

    @cached_property
    def ordered(self) -> list[Metadata]:
        """The listed chunks in order."""
        return [self.chunks[index] for index in sorted(self.chunks)]

    @property
    def filters(self) -> str:
        """What a newer client did to the bytes before it stored them; empty for plain bytes."""
        return next((tag for chunk in self.ordered if (tag := chunk.tags.get(FILTERS_TAG, "")) not in ("", "[]")), "")

    def tail(self, first: int) -> Version:
        """Return the version without the chunks before ``first``; the SHA-256 of such a rest is in no tag."""
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
            key=original_key(self.ball_id, chunks[0].tags),
            updated_at=self.updated_at,
        )


def group_by_ball(listing: Iterable[Metadata]) -> dict[str, list[Metadata]]:
    """Sort a bucket's listing by ball id."""
    balls: defaultdict[str, list[Metadata]] = defaultdict(list)
    for chunk in listing:
        balls[chunk.ball_id].append(chunk)
    return dict(balls)


def group_versions(chunks: Iterable[Metadata]) -> list[Version]:
    """
    Sort the announced chunks of one ball into versions: whole ones first, of these the newest first.

    Replicas may repeat, indexes come in any order; what has no index is left out, for no reader could place it.
    """
    groups: defaultdict[tuple[str | None, int | None], list[Metadata]] = defaultdict(list)
    for chunk in chunks:
        if chunk.index >= 0 and (chunk.num_chunks is None or chunk.index < chunk.num_chunks):
            groups[chunk.full_checksum, chunk.num_chunks].append(chunk)
    versions = [version for group in groups.values() for version in _versions_in_group(group)]
    # Of two that end with the same chunk, the one that began later is not mixed with an older cut.
    return sorted(versions, key=lambda v: (v.is_complete, v.updated_at, v.begun_at), reverse=True)


def _versions_in_group(group: Sequence[Metadata]) -> list[Version]:
    """
    Sort chunks that name the same whole and number of chunks, but may be of several cuts.

    No tag names the cut. One that is even tells by its size; for the others the newest of each index belong together,
    and the oldest of each. A wrong guess costs a reader one verification, never wrong bytes.
    """
    by_index: defaultdict[int, dict[tuple[int, str], Metadata]] = defaultdict(dict)
    for chunk in sorted(group, key=lambda chunk: chunk.updated_at):
        by_index[chunk.index][chunk.size, chunk.checksum] = chunk
    first = min(by_index)
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
