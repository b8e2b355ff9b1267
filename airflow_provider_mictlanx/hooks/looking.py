"""Calls of the hook that tell what is there. Imports the client, ``hooks.calls`` and ``hooks.summaries``."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen


class LookingCalls(HookCalls):
    """The part of ``MictlanXHook`` that tells what is there."""

    def exists(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bool:
        """
        Tell whether an object is there: by the listing, or with ``check_storage`` by reading it.

        Raises ``UnavailableError`` where that can't be told because a peer is away.

        :param bucket_id: the bucket
        :param key: the object's name
        :param check_storage: read every chunk and verify it; the listing shows announcements, not data
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.aexists, bucket_id, key, check_storage=check_storage, timeout=timeout, deadline=deadline)

    async def aexists(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bool:
        """Tell whether an object is there; see ``exists``."""
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            return value_of(
                await client.exists(bucket_id, key, **given, check_storage=check_storage, deadline=deadline)
            )

    def get_metadata(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Tell what the storage knows of an object, or raise ``NotFoundError``.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, tags, updated_at}``; ``updated_at`` is in nanoseconds
        since 1970. Parameters as of ``exists``.
        """
        return self._run(
            self.aget_metadata, bucket_id, key, check_storage=check_storage, timeout=timeout, deadline=deadline
        )

    async def aget_metadata(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Tell what the storage knows of an object; see ``get_metadata``."""
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            ball = await client.get_metadata(bucket_id, key, **given, check_storage=check_storage, deadline=deadline)
        return summaries.ball_summary(value_of(ball))

    def list_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """
        List a bucket's objects by key, as a list of what ``get_metadata`` gives.

        MictlanX never lists empty objects (size 0), though ``exists`` and ``get`` find them.

        :param bucket_id: the bucket; one that nobody wrote to is empty
        :param prefix: only keys that begin with it
        :param glob: only keys that match, as ``"2024/*.csv"``; not together with ``prefix``
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.alist_balls, bucket_id, prefix, glob, timeout=timeout, deadline=deadline)

    async def alist_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """List a bucket's objects by key; see ``list_balls``."""
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            balls = await client.list_balls(bucket_id, prefix=prefix, glob=glob, **given, deadline=deadline)
        return [summaries.ball_summary(ball) for ball in value_of(balls)]

    def list_keys(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        max_keys: int | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[str]:
        """
        List the keys of a bucket's objects, sorted. MictlanX never lists empty objects (size 0).

        :param bucket_id: the bucket; one that nobody wrote to is empty
        :param prefix: only keys that begin with it
        :param glob: only keys that match, as ``"2024/*.csv"``; not together with ``prefix``
        :param max_keys: more than so many are a ``ValidationError``; None for no limit
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.alist_keys, bucket_id, prefix, glob, max_keys=max_keys, timeout=timeout, deadline=deadline
        )

    async def alist_keys(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        max_keys: int | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[str]:
        """List the keys of a bucket's objects; see ``list_keys``."""
        if max_keys is not None:
            whole_number("max_keys", max_keys)
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            balls = value_of(await client.list_balls(bucket_id, prefix, glob, **given, deadline=deadline))
        if max_keys is not None and len(balls) > max_keys:
            which = f" that match {glob!r}" if glob else f" that begin with {prefix!r}" if prefix else ""
            raise ValidationError(
                f"bucket {bucket_id} has {len(balls):,} keys{which}, more than max_keys={max_keys:,}: choose fewer by prefix or "
                "glob, or allow more"
            )
        return [ball.key for ball in balls]
