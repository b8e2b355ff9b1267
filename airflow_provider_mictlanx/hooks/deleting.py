"""Calls of the hook that delete. Imports the client, ``hooks.calls`` and ``hooks.summaries``."""

from __future__ import annotations

from itertools import islice
from typing import Any

from airflow_provider_mictlanx.assets.places import in_bucket
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen

_FAILURES_SHOWN = 5


class DeletingCalls(HookCalls):
    """The part of ``MictlanXHook`` that deletes."""

    def delete(
        self, bucket_id: str, key: str, *, timeout: float | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Delete an object; one that is not there is deleted already.

        Returns ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.

        :param bucket_id: the bucket
        :param key: the object's name
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.adelete, bucket_id, key, timeout=timeout, deadline=deadline)

    async def adelete(
        self, bucket_id: str, key: str, *, timeout: float | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """Delete an object; see ``delete``."""
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            response = value_of(await client.delete(key, bucket_id, **given, deadline=deadline))
        await self._note(drops=[in_bucket(bucket_id, key)])
        return {"bucket_id": bucket_id, "key": key, "ball_id": response.ball_id, "n_deletes": response.n_deletes}

    def delete_bucket(
        self,
        bucket_id: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Delete every object that a bucket lists, until it lists none.

        Returns ``{bucket_id, deleted, failed, total, response_time}``. MictlanX never lists empty objects (size 0), so they
        stay until they are deleted by their key.

        :param bucket_id: the bucket
        :param timeout: of one request, in seconds
        :param max_concurrency: objects that are deleted at the same time
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.adelete_bucket, bucket_id, timeout=timeout, max_concurrency=max_concurrency, deadline=deadline
        )

    async def adelete_bucket(
        self,
        bucket_id: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Delete every object that a bucket lists; see ``delete_bucket``."""
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        async with self.aget_conn() as client:
            response = value_of(await client.delete_bucket(bucket_id, **given, deadline=deadline))
        await self._note(drops=[in_bucket(bucket_id)])
        for ball_id, why in islice(response.failures.items(), _FAILURES_SHOWN):
            self.log.warning("%s/%s could not be deleted: %s", bucket_id, ball_id, why)
        return summaries.deleted_bucket_summary(response)
