"""Calls that copy: within a storage space, and from one to another."""

from __future__ import annotations

from airflow_provider_mictlanx.client.copying import Copy
from airflow_provider_mictlanx.client.download import Download
from airflow_provider_mictlanx.client.models import PutReport
from airflow_provider_mictlanx.client.result import returns_result
from airflow_provider_mictlanx.client.retry import RetryRule
from airflow_provider_mictlanx.client.surface.base import NONE, ClientBase, changing_name, name_of
from airflow_provider_mictlanx.client.upload import PutOptions


class Copying(ClientBase):
    """The part of ``AsyncClient`` that copies."""

    @returns_result
    async def copy(
        self,
        bucket_id: str,
        key: str,
        dest_bucket_id: str,
        dest_key: str = "",
        *,
        dest: ClientBase | None = None,
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> PutReport:
        """
        Copy a ball, chunk by chunk through this process, and tell what was done; its tags go with it.

        Where its bytes are there already, none are sent. The errors are those of ``get`` and of ``put``; nothing is announced or
        replaced before the whole original was read and found right.

        :param dest_key: the copy's; the original's where it is empty
        :param dest: the client of the storage space that gets the copy, in the same event loop; this one's where it is None
        :param rf: on how many peers each chunk of the copy is to be stored
        :param timeout: for each request (seconds)
        :param max_tries: for each chunk
        :param max_concurrency: the most chunks in flight; memory is bounded by this times the original's chunks
        :param max_backoff: the longest wait between two tries (seconds)
        :param replace: delete other bytes under the copy's key first
        :param allow_reserved_bucket: whether ``dest_bucket_id`` may begin with ``bulk-``, as a bucket of a bulk's records does
        :param deadline: for the whole call (seconds)
        """
        name = name_of(bucket_id, key)
        to = changing_name(dest_bucket_id, dest_key or key, allow_reserved_bucket, "dest_bucket_id")
        target = self if dest is None else dest
        rule = RetryRule(max_tries, max_backoff)
        options = PutOptions(rf, max_concurrency, replace, producer_id=target.client_id)
        download = Download(self._dispatcher(timeout, NONE, rule), self._threads, max_concurrency)
        copy = Copy(download, target._dispatcher(timeout, NONE, rule), target._threads, options)
        async with self._doing(f"copying {name} to {to}", deadline, bucket_id):
            return await copy.run(name, to)
