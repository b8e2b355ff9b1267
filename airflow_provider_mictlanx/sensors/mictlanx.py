"""Sensors of MictlanX. Imports ``hooks``, ``triggers`` and what sensors have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_mictlanx.sensors.base import MictlanXSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXObjectTrigger


class MictlanXObjectSensor(MictlanXSensor):
    """
    Wait until an object is in a bucket, and readable.

    It looks into the listing, which shows what was announced; before it opens it reads every chunk once and verifies it
    (``check_storage``). An object that is missing, not whole or not readable yet is waited for; every other error is raised.

    XCom, the same in every mode: ``{bucket_id, key, ball_id, size, checksum, num_chunks, tags, updated_at}``.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters as of every sensor: ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` ….

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param check_storage: read every chunk before opening; False trusts the listing
    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "mictlanx_conn_id")

    def __init__(self, *, bucket_id: str, key: str, check_storage: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.check_storage = check_storage

    def find(self) -> dict[str, Any] | None:
        """Look once for the object."""
        return self.hook.find(self.bucket_id, self.key, check_storage=self.check_storage, timeout=self.request_timeout)

    def make_trigger(self, **shared: Any) -> MictlanXObjectTrigger:
        """Make the trigger that goes on looking for it."""
        return MictlanXObjectTrigger(bucket_id=self.bucket_id, key=self.key, check_storage=self.check_storage, **shared)
