"""Sensors of MictlanX. Imports ``hooks``, ``triggers``, ``bulks`` and what sensors have in common."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.sensors.base import MictlanXSensor
from airflow_provider_mictlanx.triggers.mictlanx import BulkCompleteTrigger, MictlanXObjectTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, PokeReturnValue


class MictlanXObjectSensor(MictlanXSensor):
    """
    Wait until an object is in a bucket, and readable.

    It looks into the listing, which shows what was announced; before it opens it reads every chunk once and verifies it
    (``check_storage``). An object that is missing, not whole or not readable yet is waited for, and so is a peer that is away;
    every other error is raised.

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


class BulkCompleteSensor(MictlanXSensor):
    """
    Wait until a bulk is complete: until every ball of every shard is acknowledged by the peers that store it.

    It opens after the last ball, whichever tasks and attempts uploaded it, and not before; a bulk that nobody has planned yet
    is waited for. Failures that a retry of the upload may still mend do not break it. A bulk that failed for good fails the
    task; with ``fail_on_error=False`` the sensor opens then too, when no shard is under way any more. One poke is one
    listing of the bulk's own small bucket, however large the bulk is.

    XCom, the same in every mode: ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size, response_time,
    failures, problems}``; ``failures`` are the first few.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/bulks.md``.

    Further parameters as of every sensor: ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` ….

    :param bulk_id: the bulk, as the upload names it (templated)
    :param fail_on_error: whether a bulk that failed for good is an error; False leaves that to the ``failed`` of the XCom
    :param check_storage: read every chunk of every ball once, verified, when the bulk is complete and before opening. It reads
        the whole bulk, spread over pokes: in each of them about as long as the pause between two
    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")

    def __init__(self, *, bulk_id: str, fail_on_error: bool = True, check_storage: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.fail_on_error = fail_on_error
        self.check_storage = check_storage
        self._check: StorageCheck | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        if self.check_storage and self._check is None:
            self._check = StorageCheck(self.bulk_id, run=_name_of_check(context))
        return super().poke(context)

    def find(self) -> dict[str, Any] | None:
        """Look once whether the bulk is complete, and go on reading its balls back."""
        return self.hook.find_bulk(
            self.bulk_id,
            fail_on_error=self.fail_on_error,
            check=self._check,
            check_seconds=min(self.poke_interval, self.timeout),
            timeout=self.request_timeout,
        )

    def make_trigger(self, **shared: Any) -> BulkCompleteTrigger:
        """Make the trigger that goes on looking."""
        return BulkCompleteTrigger(
            bulk_id=self.bulk_id,
            fail_on_error=self.fail_on_error,
            check_storage=self.check_storage,
            check_run=self._check.run if self._check else "",
            **shared,
        )


def _name_of_check(context: Context) -> str:
    """Name a check after this try of the task, in whatever process it goes on; a task that runs again reads again."""
    task_instance = context.get("ti")
    if task_instance is None:
        return secrets.token_hex(8)
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return "/".join(str(getattr(task_instance, name)) for name in names)
