"""Calls that delete, until what was deleted is seen to be gone."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_mictlanx.client.lookup import Name
from airflow_provider_mictlanx.client.models import (
    DeleteBucketResponse,
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
)
from airflow_provider_mictlanx.client.names import check_bucket_may_change
from airflow_provider_mictlanx.client.removal import Removal
from airflow_provider_mictlanx.client.result import returns_result
from airflow_provider_mictlanx.client.surface.base import NONE, ClientBase, changing_name, check_chunk_key


class Deleting(ClientBase):
    """The part of ``AsyncClient`` that deletes."""

    @returns_result
    async def delete(
        self,
        ball_id: str,
        bucket_id: str,
        timeout: float = 120,
        force: bool = True,
        headers: Mapping[str, str] = NONE,
        *,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeletedByBallIdResponse:
        """
        Delete a ball with all its chunks and replicas, and see it gone; what is not there counts as deleted.

        Gives the number of replicas that were deleted. ``UnavailableError``: a peer is away, and may bring its copy back.

        :param ball_id: the ball id, or any key
        :param timeout: for each request (seconds)
        :param force: sent as the header ``Force``
        :param allow_reserved_bucket: whether a bucket that begins with ``bulk-``, of a bulk's records, may be changed
        :param deadline: for the whole call (seconds)
        """
        name = changing_name(bucket_id, ball_id, allow_reserved_bucket)
        removal = Removal(self._dispatcher(timeout, headers), force)
        async with self._doing(f"deleting {name}", deadline, name):
            return DeletedByBallIdResponse(n_deletes=await removal.remove(name), ball_id=name.ball_id)

    @returns_result
    async def delete_by_key(
        self,
        key: str,
        bucket_id: str = "",
        timeout: float = 120,
        force: bool = True,
        headers: Mapping[str, str] = NONE,
        *,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeletedByKeyResponse:
        """
        Delete one chunk on all peers, and see it gone; what is not there counts as deleted.

        Gives the number of replicas that were deleted. ``UnavailableError``: a peer is away, and may bring its copy back.
        A whole ball is deleted by ``delete``.

        :param key: the chunk's key, ``{ball_id}_{index}``
        """
        check_bucket_may_change(bucket_id, allow_reserved_bucket)
        check_chunk_key(key)
        removal = Removal(self._dispatcher(timeout, headers), force)
        async with self._doing(f"deleting chunk {bucket_id}/{key}", deadline, f"{bucket_id}/{key}"):
            name = Name(bucket_id, key.rpartition("_")[0] or key, key)
            return DeletedByKeyResponse(n_deletes=await removal.remove(name, key=key), key=key)

    @returns_result
    async def delete_bucket(
        self,
        bucket_id: str,
        headers: Mapping[str, str] = NONE,
        timeout: float = 120,
        force: bool = True,
        *,
        max_concurrency: int = 8,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeleteBucketResponse:
        """
        Delete every ball of a bucket, and list it again until it is empty; a bucket with nothing in it is gone.

        Balls of size 0 are in no listing, and are not found by this. Balls that could not be deleted, or came in meanwhile,
        are counted in ``failed`` and explained in ``failures``. ``UnavailableError``: a peer is away, so that the bucket
        can't be listed.

        :param timeout: for each request (seconds)
        :param max_concurrency: the most balls at once
        :param allow_reserved_bucket: whether a bucket that begins with ``bulk-``, of a bulk's records, may be changed
        :param deadline: for the whole call (seconds)
        """
        check_bucket_may_change(bucket_id, allow_reserved_bucket)
        removal = Removal(self._dispatcher(timeout, headers), force, max_concurrency)
        async with self._doing(f"deleting bucket {bucket_id}", deadline, bucket_id):
            return await removal.empty_bucket(bucket_id)
