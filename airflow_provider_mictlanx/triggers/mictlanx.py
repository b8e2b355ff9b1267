"""Triggers of MictlanX. Imports ``hooks``, ``bulks`` and what triggers have in common."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook, Readable
from airflow_provider_mictlanx.triggers.polling import PollingTrigger


class MictlanXObjectTrigger(PollingTrigger):
    """
    Fire when an object, or enough objects, are in a bucket.

    Its result is what ``MictlanXHook.find`` gives for one key, else what ``MictlanXHook.find_objects`` gives. Further
    parameters as of ``PollingTrigger``.

    :param bucket_id: the bucket
    :param key: the object's name, or a list of them
    :param prefix: instead: all keys that begin with it
    :param glob: instead: all keys that match
    :param min_objects: how many have to be there; default: every key of a list, else 1
    :param check_storage: read every chunk and verify it before saying that an object is there
    """

    own = ("bucket_id", "key", "prefix", "glob", "min_objects", "check_storage")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str | list[str] | None = None,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.prefix = prefix
        self.glob = glob
        self.min_objects = min_objects
        self.check_storage = check_storage
        self._readable: Readable = {}

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once for the object, or the objects."""
        if isinstance(self.key, str):
            return await hook.afind(
                self.bucket_id,
                self.key,
                check_storage=self.check_storage,
                request_timeout=self.request_timeout,
                client=client,
            )
        return await hook.afind_objects(
            self.bucket_id,
            self.key,
            prefix=self.prefix,
            glob=self.glob,
            min_objects=self.min_objects,
            check_storage=self.check_storage,
            readable=self._readable,
            request_timeout=self.request_timeout,
            client=client,
        )


class BucketUnchangedTrigger(PollingTrigger):
    """
    Fire when nothing was changed in a bucket for some time; its result is what ``MictlanXHook.find_quiet`` gives.

    Further parameters as of ``PollingTrigger``.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: for how long nothing may change, in seconds
    :param min_objects: how many whole objects there have to be
    :param allow_delete: whether objects may go meanwhile
    :param state: what the sensor saw (``InactivityMonitor.state``): another triggerer that takes over compares with it
    """

    own = ("bucket_id", "prefix", "inactivity_period", "min_objects", "allow_delete", "state")

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str,
        inactivity_period: float,
        min_objects: int,
        allow_delete: bool,
        state: dict[str, Any] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.allow_delete = allow_delete
        self.state = state
        self._watch: InactivityMonitor | None = None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once whether the bucket is quiet."""
        if self._watch is None:
            self._watch = InactivityMonitor(
                self.bucket_id,
                self.prefix,
                inactivity_period=self.inactivity_period,
                min_objects=self.min_objects,
                allow_delete=self.allow_delete,
                state=self.state,
            )
        return await hook.afind_quiet(self._watch, request_timeout=self.request_timeout, client=client)


class BulkCompleteTrigger(PollingTrigger):
    """
    Fire when every shard of a bulk is done; its result is what ``MictlanXHook.await_bulk`` gives, without items.

    A bulk that failed for good is an error, or with ``fail_on_error=False`` a result. Further parameters as of
    ``PollingTrigger``.

    :param bulk_id: the bulk
    :param fail_on_error: whether a bulk that failed for good is an error
    :param check_storage: read every chunk of every ball and verify it, before saying that the bulk is complete: in each poke
        about as long as the pause between two of them
    :param check_run: the name of the check that the sensor began: the trigger goes on with it
    """

    own = ("bulk_id", "fail_on_error", "check_storage", "check_run")

    def __init__(
        self,
        *,
        bulk_id: str,
        fail_on_error: bool = True,
        check_storage: bool = False,
        check_run: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.fail_on_error = fail_on_error
        self.check_storage = check_storage
        self.check_run = check_run
        self._check = StorageCheck(bulk_id, run=check_run) if check_storage else None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once whether the bulk is complete, and go on reading its balls back."""
        return await hook.afind_bulk(
            self.bulk_id,
            fail_on_error=self.fail_on_error,
            check=self._check,
            check_seconds=self.poke_interval,
            request_timeout=self.request_timeout,
            client=client,
        )
