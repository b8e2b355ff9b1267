"""Triggers of MictlanX. Imports ``hooks``, ``bulks`` and what triggers have in common."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.triggers.polling import PollingTrigger


class MictlanXObjectTrigger(PollingTrigger):
    """
    Fire when an object is in a bucket; its result is what ``MictlanXHook.get_metadata`` gives.

    Further parameters as of ``PollingTrigger``.

    :param bucket_id: the bucket
    :param key: the object's name
    :param check_storage: read every chunk and verify it before saying that the object is there
    """

    own = ("bucket_id", "key", "check_storage")

    def __init__(self, *, bucket_id: str, key: str, check_storage: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.check_storage = check_storage

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once for the object."""
        return await hook.afind(
            self.bucket_id, self.key, check_storage=self.check_storage, timeout=self.request_timeout, client=client
        )


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
            timeout=self.request_timeout,
            client=client,
        )
