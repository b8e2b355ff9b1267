"""Operators that read, given out by ``operators.mictlanx``. Imports what operators have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mictlanx.operators.base import MictlanXOperator, transferred

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXGetToFileOperator(MictlanXOperator):
    """
    Read an object into a file of the worker, which appears whole and verified, or not at all.

    XCom: ``{bucket_id, key, ball_id, path, size, checksum, num_chunks, downloaded, response_time}``; ``downloaded`` is False
    where a file with this content was there already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param output_path: a folder of the worker; made if missing (templated)
    :param filename: the file's plain name; default: the key's last component (templated)
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: overwrite a file with other content, which is an error otherwise
    :param deadline: of the whole download, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "output_path", "filename", "mictlanx_conn_id")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        filename: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.output_path = output_path
        self.filename = filename
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Read it."""
        result = self.hook.get_to_file(
            self.bucket_id,
            self.key,
            self.output_path,
            filename=self.filename,
            timeout=self.timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            replace=self.replace,
            deadline=self.deadline,
        )
        if result["downloaded"]:
            self.log.info("Read %s into %s", transferred(result), result["path"])
        else:
            size = transferred(result, speed=False)
            self.log.info("Nothing to read: %s holds %s already", result["path"], size)
        return result
