"""
Companions, which make empty objects visible in listings.

MictlanX lists no chunk of size 0. So an empty ball also stores a *companion*: a chunk of one byte with the same ball id
and a key of its own. Every listing of the ball or the bucket then shows it, and a delete by ball id reaches it, without
a further request. Its tag ``mictlanx_empty_object`` identifies it. No user can set this tag, since its prefix is
reserved.

A companion counts only while no complete ball of other bytes is listed beside it; otherwise it is *stale*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.versions import group_by_object, group_versions

COMPANION_TAG = "mictlanx_empty_object"
"""Tag of a companion: the key of its empty object."""

COMPANION_DATA = b"\n"
"""The bytes of a companion."""

EMPTY_CHECKSUM = hashlib.sha256().hexdigest()

NO_PLACE: Mapping[str, str] = {"num_chunks": "0", "full_checksum": EMPTY_CHECKSUM}
"""Tags of a companion with which readers find no place for it in the ball; it never matches the ball's checksum."""


class CompanionId(ObjectId):
    """The id of an empty ball, for requests about its companion."""

    def chunk(self, index: int) -> str:
        """Return the key of the companion, which has only one chunk."""
        return companion_key(self.ball_id)


def companion_key(ball_id: str) -> str:
    """Return the chunk key of a ball's companion; no chunk of a ball has such a key, since these end in an index."""
    return f"{ball_id}_empty-object"


def is_companion(chunk: Metadata) -> bool:
    """Return whether a listed chunk is a companion."""
    return COMPANION_TAG in chunk.tags and chunk.key == companion_key(chunk.ball_id)


def with_empty_objects(listing: Sequence[Metadata]) -> Sequence[Metadata]:
    """Return a listing with the chunk of the empty ball in place of each companion; stale companions are left out."""
    companions = [chunk for chunk in listing if is_companion(chunk)]
    if not companions:
        return listing
    data = [chunk for chunk in listing if not is_companion(chunk)]
    ball_ids = {chunk.ball_id for chunk in companions}
    stale = _complete_balls(chunk for chunk in data if chunk.ball_id in ball_ids)
    return [*data, *(_empty_chunk(chunk) for chunk in companions if chunk.ball_id not in stale)]


def _complete_balls(listing: Iterable[Metadata]) -> set[str]:
    """Return the ids of the balls with a complete version."""
    versions = {row: group_versions(chunks) for row, chunks in group_by_object(listing).items()}
    return {ball_id for (ball_id, own_key), found in versions.items() if not own_key and found and found[0].is_complete}


def _empty_chunk(companion: Metadata) -> Metadata:
    """Return the metadata of the empty ball's chunk, with the tags that its writer gave both."""
    tags = {name: tag for name, tag in companion.tags.items() if name != COMPANION_TAG}
    return Metadata(
        key=ObjectId(companion.bucket_id, companion.ball_id).chunk(0),
        size=0,
        checksum=EMPTY_CHECKSUM,
        tags={**tags, "num_chunks": "1", "full_checksum": EMPTY_CHECKSUM, "chunk_size": "0"},
        content_type=companion.content_type,
        producer_id=companion.producer_id,
        ball_id=companion.ball_id,
        bucket_id=companion.bucket_id,
        is_disabled=companion.is_disabled,
    )
