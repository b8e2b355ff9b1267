"""Triggers of MictlanX. Imports ``hooks`` and what triggers have in common."""

from __future__ import annotations

from typing import Any

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
