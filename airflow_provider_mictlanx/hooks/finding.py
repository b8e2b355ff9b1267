"""
Calls of the hook that look once for what may not be there yet, for who looks again and again: sensors and triggers.

Imports the client, ``hooks.calls``, ``hooks.bucket_inactivity`` and ``hooks.summaries``. While a peer is away, what can't be seen is "not yet".
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

from airflow_provider_mictlanx.bulks.inthread import in_thread
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.workers import for_each
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen

LOOKED_FOR_AT_ONCE = 8
"""How many of the keys of a list are looked for at the same time."""

READ_AT_ONCE = 2
"""How many objects are read at the same time; the chunks of each are as well."""

Readable: TypeAlias = MutableMapping[str, Ball]
"""The versions that were read and found right, by ball id."""

_NOT_YET = (NotFoundError, GetChunkError, IntegrityError, UnavailableError)
"""What an object that is not there, not whole, or behind a peer that is away is answered with."""


class FindingCalls(HookCalls):
    """The part of ``MictlanXHook`` that sensors and triggers look with."""

    def find(
        self, bucket_id: str, key: str, *, check_storage: bool = True, timeout: float | None = None
    ) -> dict[str, Any] | None:
        """
        Look once for an object that may not be there yet: give what ``get_metadata`` gives, or None.

        It looks into the listing; only what is listed there is read, if ``check_storage`` is on. While a peer is away, what
        can't be seen is "not yet" too.

        :param bucket_id: the bucket
        :param key: the object's name
        :param check_storage: read every chunk and verify it before saying that the object is there
        :param timeout: of one request, in seconds
        """
        return self._run(self.afind, bucket_id, key, check_storage=check_storage, timeout=timeout)

    async def afind(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = True,
        timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once for an object that may not be there yet; see ``find``.

        :param client: an open client of this loop, for who looks again and again; default: one for this call
        """
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with nullcontext(client) if client is not None else self.aget_conn() as opened:
            try:
                ball = value_of(await opened.get_metadata(bucket_id, key, **given))
                if check_storage:
                    ball = value_of(await opened.get_metadata(bucket_id, key, **given, check_storage=True))
            except _NOT_YET as error:
                self.log.info("%s/%s is not there yet: %s", bucket_id, key, error)
                return None
        result = summaries.ball_summary(ball)
        self.log.info("%s", summaries.found_line(result))
        return result

    def find_objects(
        self,
        bucket_id: str,
        keys: Sequence[str] | None = None,
        *,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        readable: Readable | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once for several objects: give what was found if it is enough, else None.

        Returns ``{bucket_id, count, total_size, objects}``; ``objects`` are the first few, as ``{key, size}``: in the order of
        ``keys``, else sorted by key. The keys of a list are looked for one by one; for ``prefix`` and ``glob`` the bucket is listed,
        which shows no empty objects (size 0).

        :param bucket_id: the bucket
        :param keys: the objects' names
        :param prefix: instead: all keys that begin with it
        :param glob: instead: all keys that match, as ``"2024/*.csv"``
        :param min_objects: how many have to be there; default: all of ``keys``, else 1
        :param check_storage: read every chunk and verify it before saying that an object is there
        :param readable: keeps what was read, so that the next call reads only what is new
        :param timeout: of one request, in seconds
        """
        return self._run(
            self.afind_objects,
            bucket_id,
            keys,
            prefix=prefix,
            glob=glob,
            min_objects=min_objects,
            check_storage=check_storage,
            readable=readable,
            timeout=timeout,
        )

    async def afind_objects(
        self,
        bucket_id: str,
        keys: Sequence[str] | None = None,
        *,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        readable: Readable | None = None,
        timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once for several objects; see ``find_objects``.

        :param client: an open client of this loop, for who looks again and again; default: one for this call
        """
        if [keys, prefix, glob].count(None) != 2:
            raise ValidationError("several objects are looked for by keys, prefix or glob: by one of them")
        names = None if keys is None else _names(keys)
        needed = _needed(names, min_objects)
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with nullcontext(client) if client is not None else self.aget_conn() as opened:
            if names is None:
                found = await self._listed(opened, bucket_id, prefix, glob, given)
            else:
                found = await self._looked_for(opened, bucket_id, names, given)
            if check_storage and len(found) >= needed:
                found = await self._read(opened, found, {} if readable is None else readable, given)
        self.log.info(
            "Bucket %s: %s there, of at least %d", bucket_id, summaries.format_count(len(found), "object"), needed
        )
        return summaries.objects_summary(bucket_id, found) if len(found) >= needed else None

    async def _looked_for(
        self, client: AsyncClient, bucket_id: str, keys: list[str], given: dict[str, Any]
    ) -> list[Ball]:
        found: dict[str, Ball] = {}

        async def look(key: str) -> None:
            try:
                found[key] = value_of(await client.get_metadata(bucket_id, key, **given))
            except _NOT_YET as error:
                self.log.info("%s/%s is not there yet: %s", bucket_id, key, error)

        await for_each(keys, look, LOOKED_FOR_AT_ONCE)
        return [found[key] for key in keys if key in found]

    async def _listed(
        self, client: AsyncClient, bucket_id: str, prefix: str | None, glob: str | None, given: dict[str, Any]
    ) -> list[Ball]:
        if glob == "":
            raise ValidationError("glob is empty; for every object of the bucket say '*'")
        try:
            return value_of(await client.list_balls(bucket_id, prefix or "", glob or "", **given))
        except UnavailableError as error:
            self.log.info("Bucket %s can't be seen whole: %s", bucket_id, error)
            return []

    async def _read(
        self, client: AsyncClient, balls: list[Ball], readable: Readable, given: dict[str, Any]
    ) -> list[Ball]:
        """Read what was not read before; gives what is right, in the same order."""

        async def read(ball: Ball) -> None:
            if (before := readable.get(ball.ball_id)) is not None and _content(before) == _content(ball):
                return
            readable.pop(ball.ball_id, None)
            try:
                right = await client.get_metadata(ball.bucket_id, ball.ball_id, **given, check_storage=True)
                readable[ball.ball_id] = value_of(right)
            except _NOT_YET as error:
                self.log.info("%s/%s is not readable yet: %s", ball.bucket_id, ball.key, error)

        await for_each(balls, read, READ_AT_ONCE)
        return [readable[ball.ball_id] for ball in balls if ball.ball_id in readable]

    def find_quiet(self, watch: InactivityMonitor, *, timeout: float | None = None) -> dict[str, Any] | None:
        """
        Look once whether nothing was changed in a bucket for some time.

        Returns ``{bucket_id, prefix, count, total_size, updated_at}``, or None for "not yet".

        :param watch: what is watched; it goes on from call to call
        :param timeout: of one request, in seconds
        """
        return self._run(self.afind_quiet, watch, timeout=timeout)

    async def afind_quiet(
        self, watch: InactivityMonitor, *, timeout: float | None = None, client: AsyncClient | None = None
    ) -> dict[str, Any] | None:
        """
        Look once whether nothing was changed in a bucket for some time; see ``find_quiet``.

        :param client: an open client of this loop, for who looks again and again; default: one for this call
        """
        given = chosen(await self.aget_settings(), timeout=timeout)
        async with nullcontext(client) if client is not None else self.aget_conn() as opened:
            try:
                listing = value_of(await opened.get_chunks_by_bucket_id(watch.bucket_id, **given))
            except UnavailableError as error:
                self.log.info("Bucket %s can't be seen whole: %s", watch.bucket_id, error)
                return None
        quiet = await in_thread(lambda: watch.update(listing))
        self._tell(watch.line)
        return quiet


def _content(ball: Ball) -> tuple[object, ...]:
    return ball.checksum, *((chunk.size, chunk.checksum) for chunk in ball.chunks)


def _names(keys: Sequence[str]) -> list[str]:
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not all(isinstance(key, str) for key in keys):
        raise ValidationError(f"the keys are a list of texts, not {keys!r}")
    if not keys:
        raise ValidationError("the list of keys is empty: there is nothing to look for")
    return list(dict.fromkeys(keys))


def _needed(keys: list[str] | None, min_objects: int | None) -> int:
    if min_objects is None:
        return 1 if keys is None else len(keys)
    needed = whole_number("min_objects", min_objects)
    if keys is not None and needed > len(keys):
        raise ValidationError(f"min_objects is {needed}, and only {len(keys)} different keys are looked for")
    return needed
