"""Calls that tell what is there, without its data unless that is asked for."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from airflow_provider_mictlanx.client.download import Download
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.lookup import (
    find_versions,
    get_peers,
    list_bucket,
    look_at_bucket,
    roll_call,
)
from airflow_provider_mictlanx.client.models import (
    Ball,
    Bucket,
    GetMetadataResponse,
    GetRouterBucketMetadataResponse,
    Metadata,
    RetryPolicy,
)
from airflow_provider_mictlanx.client.names import check_bucket_id
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.retry import RetryRule
from airflow_provider_mictlanx.client.surface.base import NONE, ClientBase, check_chunk_key, name_of, rule_of
from airflow_provider_mictlanx.client.versions import balls_in, versions_of

LISTED_SIZE = 500
"""About what a chunk takes in a listing (bytes)."""


class Looking(ClientBase):
    """The part of ``AsyncClient`` that tells what is there."""

    @returns_result
    async def get_metadata(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        restart_policy: RetryPolicy | None = None,
        *,
        check_storage: bool = False,
        deadline: float | None = None,
    ) -> Ball:
        """
        Get what is known of a ball: of its newest whole version.

        ``NotFoundError``: known to be absent, or never written to its end; ``UnavailableError``: a peer is away, so that it
        can't be told.

        :param ball_id: the ball id, or any key
        :param timeout: for each request (seconds)
        :param restart_policy: how often the look is repeated; five tries where it is None
        :param check_storage: whether every chunk is read once, verified: a listing shows announcements, not data. Then also
            ``GetChunkError`` and ``IntegrityError``, as with ``get``
        :param deadline: for the whole call (seconds)
        """
        return await self._find(bucket_id, ball_id, timeout, headers, rule_of(restart_policy), check_storage, deadline)

    @returns_result
    async def get_metadata_by_key(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        retry_policy: RetryPolicy | None = None,
        *,
        deadline: float | None = None,
    ) -> GetMetadataResponse:
        """
        Get the metadata of one chunk, of whichever replica the router asks.

        ``NotFoundError``: the placement service knows no replica; ``UnavailableError``: a replica is placed, but no peer told
        of it in all tries.

        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for each request (seconds)
        :param retry_policy: how often it is asked; five tries where it is None
        """
        check_bucket_id(bucket_id)
        check_chunk_key(key)
        routers = self._dispatcher(timeout, headers, rule_of(retry_policy))
        async with self._doing(f"metadata of chunk {bucket_id}/{key}", deadline, f"{bucket_id}/{key}"):
            return await routers.ask(lambda router, how: router.get_metadata(bucket_id, key, **how))

    @returns_result
    async def get_chunks_by_bucket_id(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        partial: bool = False,
        name_missing: bool = True,
        deadline: float | None = None,
    ) -> GetRouterBucketMetadataResponse:
        """
        List every announced chunk of a bucket as the router gives it: repeated, in no order, without those of size 0.

        ``UnavailableError``: a peer is away, so that what it holds would be missing.

        :param partial: whether a listing without some peers' part is given too; then ``extra["missing_peers"]`` names them
        :param name_missing: False with ``partial`` saves the request that finds them; ``missing_peers`` makes it later
        """
        check_bucket_id(bucket_id)
        routers = self._dispatcher(timeout, headers)
        async with self._doing(f"listing bucket {bucket_id}", deadline, bucket_id):
            if not partial:
                return await routers.repeat(lambda: list_bucket(routers, bucket_id))
            if not name_missing:
                return await routers.ask(lambda router, how: router.get_bucket_metadata(bucket_id, **how))
            listing, missing = await routers.repeat(lambda: look_at_bucket(routers, bucket_id))
            return listing.model_copy(update={"extra": {**listing.extra, "missing_peers": missing}})

    @returns_result
    async def missing_peers(
        self, listing: GetRouterBucketMetadataResponse, timeout: float = 120, *, deadline: float | None = None
    ) -> list[str]:
        """
        Tell which peers have no part in a listing of a bucket, so that what they hold is missing in it: one request.

        :param listing: what ``get_chunks_by_bucket_id`` gave
        :param timeout: for each try (seconds)
        """
        routers = self._dispatcher(timeout, NONE)
        what = f"asking which peers have no part in the listing of bucket {listing.bucket_id}"
        async with self._doing(what, deadline, listing.bucket_id):
            found = await routers.repeat(lambda: get_peers(routers))
        return sorted(set(found.peer_ids) - set(listing.peers_ids))

    @returns_result
    async def get_bucket_metadata(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        deadline: float | None = None,
    ) -> Bucket:
        """
        Get the balls of a bucket, sorted by key: iterable, with ``len()``, ``size_bytes()`` and ``size()`` (for people).

        As ``list_balls`` without a choice.
        """
        return Bucket(
            bucket_id, value_of(await self.list_balls(bucket_id, timeout=timeout, headers=headers, deadline=deadline))
        )

    @returns_result
    async def exists(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        check_storage: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Tell whether a whole ball is there.

        ``UnavailableError``: a peer is away, so that an absent answer is no no.

        :param check_storage: whether every chunk is read once, verified; else the listing of announcements answers
        """
        try:
            await self._find(bucket_id, key, timeout, headers, RetryRule(), check_storage, deadline)
        except NotFoundError:
            return False
        except (GetChunkError, IntegrityError) as error:
            if error.peer_away:  # it may be back by now, and was not when its copy was wanted
                raise UnavailableError(str(error)) from error
            routers = self._dispatcher(timeout, headers)
            name = name_of(bucket_id, key)
            async with self._doing(f"reading {name}", None, name):
                await routers.repeat(lambda: roll_call(routers, f"reading {name}", bucket_id))
            return False
        return True

    @returns_result
    async def list_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        deadline: float | None = None,
    ) -> list[Ball]:
        """
        List the balls of a bucket, sorted by key: those of which every chunk is announced.

        Balls of size 0 are in no listing. An unknown bucket is an empty one. The router sends the whole bucket, whatever is
        asked for.

        ``UnavailableError``: a peer is away, so that what it holds would be missing.

        :param prefix: keys that begin like this
        :param glob: keys that match this pattern: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these
        """
        check_bucket_id(bucket_id)
        for name, value in (("prefix", prefix), ("glob", glob)):
            if not isinstance(value, str):
                raise ValidationError(f"{name} is a text, not {value!r}")
        if prefix and glob:
            raise ValidationError("list_balls takes either prefix or glob")
        routers = self._dispatcher(timeout, headers)
        async with self._doing(f"listing bucket {bucket_id}", deadline, bucket_id):
            listing = await routers.repeat(lambda: list_bucket(routers, bucket_id))
        # A listing of thousands would keep the loop from everything else for a good part of a second.
        return await self._threads.run_sized(len(listing.balls) * LISTED_SIZE, _chosen_of, listing.balls, prefix, glob)

    async def _find(
        self,
        bucket_id: str,
        key: str,
        timeout: float,
        headers: Mapping[str, str],
        rule: RetryRule,
        check_storage: bool,
        deadline: float | None,
    ) -> Ball:
        name = name_of(bucket_id, key)
        routers = self._dispatcher(timeout, headers, rule)
        async with self._doing(f"looking for {name}", deadline, name):
            if check_storage:
                return (await Download(routers, self._threads, max_concurrency=10).verify(name)).as_ball()
            return (await routers.repeat(lambda: find_versions(routers, name)))[0].as_ball()


def _chosen_of(chunks: list[Metadata], prefix: str, glob: str) -> list[Ball]:
    """Give the whole balls of a listing whose keys match, sorted by key."""
    newest = [versions_of(listed)[:1] for listed in balls_in(chunks).values()]
    balls = [version.as_ball() for versions in newest for version in versions if version.whole]
    chosen = [
        ball for ball in balls if ball.key.startswith(prefix) and (not glob or fnmatch.fnmatchcase(ball.key, glob))
    ]
    return sorted(chosen, key=lambda ball: ball.key)
