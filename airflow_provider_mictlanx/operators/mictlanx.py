"""
Operators of MictlanX: parameters in, a hook call, a small dictionary out. Gives out what the modules beside it define.

What they take means the same in each: ``timeout`` is for one request (seconds), ``max_tries`` per chunk within one try of Airflow,
``max_backoff`` the longest pause between two of those (seconds), and ``deadline`` for the whole call (seconds; default none). An
upload of a bulk is bounded by Airflow's ``execution_timeout`` only, and goes on in the next try. In what waits for a bulk ``timeout`` is
the whole wait, and ``request_timeout`` for one request.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, BaseOperator, conf
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.client.checks import seconds
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, MictlanXError, ValidationError
from airflow_provider_mictlanx.hooks import lines
from airflow_provider_mictlanx.hooks.bulks import Source
from airflow_provider_mictlanx.hooks.failures import is_timeout_of_deferral, permanent_errors_fail_the_task
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.links.mictlanx import (
    MictlanXBucketLink,
    MictlanXBulkLink,
    MictlanXDestinationLink,
    MictlanXObjectLink,
    keep_links,
)
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBulkCompleteTrigger, read_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


class MictlanXOperator(BaseOperator):
    """
    Do something in MictlanX that can be stopped, and that fails at once where no retry could mend it.

    :param mictlanx_conn_id: the connection (templated)
    """

    def __init__(self, *, mictlanx_conn_id: str = MictlanXHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id

    @abstractmethod
    def work(self, context: Context) -> Any:
        """Do it, and give what goes to XCom."""

    @cached_property
    def hook(self) -> MictlanXHook:
        """The hook of this task."""
        return MictlanXHook(self.mictlanx_conn_id)

    def execute(self, context: Context) -> Any:
        """Do the work; an error that no retry can mend becomes ``AirflowFailException``, any other stays as it is."""
        with permanent_errors_fail_the_task():
            keep_links(self, context)
            return self.work(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage what the task read, wrote and deleted; called by its provider, also after a failure."""
        from airflow_provider_mictlanx.assets.openlineage import lineage_of

        return lineage_of(self.hook.trace)

    def on_kill(self) -> None:
        """Stop what is under way; it cleans up behind itself."""
        if "hook" in self.__dict__:
            self.hook.cancel()


class MictlanXPutOperator(MictlanXOperator):
    """
    Store a file, or a small text, under a key.

    A task that runs again finds its own bytes and sends only what is missing. Other bytes under the key are an error, unless
    ``replace`` is set.

    XCom: ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``; ``replicas`` is the
    smallest number over all chunks, ``uploaded`` is False where exactly these bytes were stored already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket: letters, digits, and single ``-`` or ``_`` between them (templated)
    :param key: the object's name; any text (templated)
    :param data: what to store; a text is encoded as UTF-8. It is shown in *Rendered Templates*: meant for small things that
        are no secret (templated)
    :param file_path: the file to store, instead of ``data``; a path on the worker (templated)
    :param tags: texts by name, kept with the object (templated)
    :param chunk_size: how it is cut, as ``"256kb"`` or ``"8MB"``; default: the connection's, else chosen by the
        size
    :param rf: on how many peers every chunk is to be stored
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: delete other bytes under that key first. There is a moment when neither is stored; a crash in it leaves
        nothing until the retry
    :param deadline: of the whole upload, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "data", "file_path", "tags", "mictlanx_conn_id")
    template_fields_renderers = {"tags": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXObjectLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        data: str | bytes | None = None,
        file_path: str | os.PathLike[str] | None = None,
        tags: Mapping[str, str] | None = None,
        chunk_size: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (data is None) == (file_path is None):
            given = "neither" if data is None else "both"
            raise ValueError(f"MictlanXPutOperator takes either data or file_path, and got {given}")
        self.bucket_id = bucket_id
        self.key = key
        self.data = data
        self.file_path = file_path
        self.tags = tags
        self.chunk_size = chunk_size
        self.rf = rf
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Store it."""
        options: dict[str, Any] = {
            "chunk_size": self.chunk_size,
            "rf": self.rf,
            "timeout": self.timeout,
            "max_tries": self.max_tries,
            "max_concurrency": self.max_concurrency,
            "max_backoff": self.max_backoff,
            "tags": self.tags,
            "replace": self.replace,
            "deadline": self.deadline,
        }
        if self.file_path is not None:
            result = self.hook.put_file(self.bucket_id, self.key, self.file_path, **options)
        elif self.data is not None:
            result = self.hook.put(self.bucket_id, self.key, self.data, **options)
        else:
            raise ValidationError(
                f"data and file_path are both None after rendering: there is nothing to store as {self.bucket_id}/{self.key}"
            )
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Stored %s, %s", lines.of_transfer(result), replicas)
        else:
            self.log.info("Nothing to send: %s was stored already", lines.of_transfer(result, speed=False))
        return result


class MictlanXListOperator(MictlanXOperator):
    """
    List the keys of a bucket: all, those that begin with a prefix, or those that match a glob.

    XCom: the list of keys, sorted, as ``.expand(key=listing.output)`` takes it. It is bounded by ``max_keys``: more keys fail the task,
    before they flood XCom, or Airflow's ``[core] max_map_length``. MictlanX never lists empty objects (size 0).

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket; one that nobody wrote to is empty (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these; not together with
        ``prefix`` (templated)
    :param max_keys: the most keys that are listed; None for no limit
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "prefix", "glob", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        max_keys: int | None = 1000,
        timeout: float | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.max_keys = max_keys
        self.timeout = timeout
        self.deadline = deadline

    def work(self, context: Context) -> list[str]:
        """List them."""
        keys = self.hook.list_keys(
            self.bucket_id,
            self.prefix,
            self.glob,
            max_keys=self.max_keys,
            timeout=self.timeout,
            deadline=self.deadline,
        )
        self.log.info(
            "Listed %s of bucket %s: %s", self.glob or f"{self.prefix}*", self.bucket_id, pluralize(len(keys), "key")
        )
        return keys


class MictlanXGetOperator(MictlanXOperator):
    """
    Read a small text into XCom, verified.

    XCom: the text. An object that is larger than ``max_size`` fails the task before any of it is read: for those there is
    ``MictlanXGetToFileOperator``. Bytes that are no text in ``encoding`` fail it too.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param encoding: of the text, as Python names it
    :param max_size: of the object: bytes, or a text such as ``"48kb"``, which every database of Airflow takes
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "mictlanx_conn_id")
    operator_extra_links = (MictlanXObjectLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        encoding: str = "utf-8",
        max_size: int | str = "48kb",
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.encoding = encoding
        self.max_size = max_size
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.deadline = deadline

    def work(self, context: Context) -> str:
        """Read it."""
        text = self.hook.get_text(
            self.bucket_id,
            self.key,
            encoding=self.encoding,
            max_size=self.max_size,
            timeout=self.timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            deadline=self.deadline,
        )
        if "\0" in text:
            raise ValidationError(
                f"{self.bucket_id}/{self.key} holds NUL characters, which not every database of XComs takes: read it into a file"
            )
        self.log.info("Read %s/%s: %s", self.bucket_id, self.key, pluralize(len(text), "character"))
        return text


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
    operator_extra_links = (MictlanXObjectLink(),)

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
            self.log.info("Read %s into %s", lines.of_transfer(result), result["path"])
        else:
            size = lines.of_transfer(result, speed=False)
            self.log.info("Nothing to read: %s holds %s already", result["path"], size)
        return result


class MictlanXGetToFolderOperator(MictlanXOperator):
    """
    Read many objects into a folder of the worker: a bucket, a part of it, or a bulk; each into the file that its key names there.

    A task that runs again reads what is missing: files that are there with the right checksum are left as they are. Every file
    appears whole and verified, or not at all, and none outside of the folder. Keys that would leave it, and two that would be one
    file there, fail the task before anything is read.

    XCom: ``{bucket_id, prefix, glob, bulk_id, output_path, total_balls, downloaded, skipped, failed, downloaded_size, response_time,
    failures}``; ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code, message}``.

    A bucket never lists empty objects (size 0); a bulk knows the ones it uploaded.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param output_path: a folder of the worker; made if missing (templated)
    :param bucket_id: the bucket; this or ``bulk_id`` (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these; not together with
        ``prefix`` (templated)
    :param bulk_id: instead of ``bucket_id``: a complete bulk, with the bytes that it uploaded; gate on it by
        ``BulkCompleteSensor`` (templated)
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else 8
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: overwrite files with other content, which are failures otherwise
    :param fail_on_error: fail the task where an object could not be read; False leaves that to the ``failed`` of the XCom
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("output_path", "bucket_id", "prefix", "glob", "bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(), MictlanXBulkLink())

    def __init__(
        self,
        *,
        output_path: str | os.PathLike[str],
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        bulk_id: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (bucket_id is None) == (bulk_id is None):
            given = "neither" if bucket_id is None else "both"
            raise ValueError(f"MictlanXGetToFolderOperator takes either bucket_id or bulk_id, and got {given}")
        self.output_path = output_path
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.bulk_id = bulk_id
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.fail_on_error = fail_on_error
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Read them."""
        return self.hook.get_to_folder(
            self.output_path,
            self.bucket_id,
            self.prefix,
            self.glob,
            bulk_id=self.bulk_id,
            timeout=self.timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            replace=self.replace,
            fail_on_error=self.fail_on_error,
            deadline=self.deadline,
        )


class MictlanXCopyOperator(MictlanXOperator):
    """
    Copy an object, or all that begin with a prefix: to another key, another bucket, or through another connection.

    The bytes go through the worker chunk by chunk: memory is bounded, and nothing touches its disk. Both sides are verified. The
    tags go along. Where the same bytes are there already, none are sent, so a task that runs again sends what is missing.
    Other bytes are an error, unless ``replace`` is set.

    XCom with ``key``: of the copy ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``, and
    ``source_bucket_id, source_key``; ``uploaded`` is False where the bytes were there already. With ``prefix``: ``{bucket_id,
    prefix, dest_bucket_id, dest_prefix, total_balls, copied, skipped, failed, copied_size, response_time, failures}``;
    ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket that is copied from (templated)
    :param dest_bucket_id: the bucket that gets the copies (templated)
    :param key: the object; this or ``prefix`` (templated)
    :param prefix: every object whose key begins with it; ``""`` for the whole bucket, but for empty objects (size 0), which are
        in no listing (templated)
    :param dest_key: the copy's key; default: the original's (templated)
    :param dest_prefix: stands in the copies' keys where ``prefix`` was; default: they keep their keys (templated)
    :param dest_conn_id: the connection of the copies; default: ``mictlanx_conn_id`` (templated)
    :param rf: on how many peers every chunk of a copy is to be stored
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: delete other bytes under a copy's key first. There is a moment when neither is stored; a crash in it leaves
        nothing until the retry
    :param fail_on_error: with ``prefix``: fail the task where an object could not be copied; False leaves that to the ``failed`` of
        the XCom
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection of the originals (templated)
    """

    template_fields: Sequence[str] = (
        *("bucket_id", "dest_bucket_id", "key", "prefix", "dest_key", "dest_prefix", "dest_conn_id"),
        "mictlanx_conn_id",
    )
    operator_extra_links = (MictlanXDestinationLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        dest_bucket_id: str,
        key: str | None = None,
        prefix: str | None = None,
        dest_key: str | None = None,
        dest_prefix: str | None = None,
        dest_conn_id: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (key is None) == (prefix is None):
            given = "neither" if key is None else "both"
            raise ValueError(f"MictlanXCopyOperator takes either key or prefix, and got {given}")
        if (key is None and dest_key is not None) or (prefix is None and dest_prefix is not None):
            raise ValueError("MictlanXCopyOperator takes dest_key with key, and dest_prefix with prefix")
        self.bucket_id = bucket_id
        self.dest_bucket_id = dest_bucket_id
        self.key = key
        self.prefix = prefix
        self.dest_key = dest_key
        self.dest_prefix = dest_prefix
        self.dest_conn_id = dest_conn_id
        self.rf = rf
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.fail_on_error = fail_on_error
        self.deadline = deadline

    @cached_property
    def dest_hook(self) -> MictlanXHook:
        """The hook of the copy's connection."""
        return self.hook if self.dest_conn_id is None else MictlanXHook(self.dest_conn_id)

    def work(self, context: Context) -> dict[str, Any]:
        """Copy it, or them."""
        options: dict[str, Any] = {
            "dest_conn_id": self.dest_conn_id,
            "rf": self.rf,
            "timeout": self.timeout,
            "max_tries": self.max_tries,
            "max_concurrency": self.max_concurrency,
            "max_backoff": self.max_backoff,
            "replace": self.replace,
            "deadline": self.deadline,
        }
        if self.prefix is not None:
            return self.hook.copy_prefix(
                self.bucket_id,
                self.prefix,
                self.dest_bucket_id,
                self.dest_prefix,
                fail_on_error=self.fail_on_error,
                **options,
            )
        if self.key is None:
            raise ValidationError(
                f"key and prefix are both None after rendering: nothing says what to copy from bucket {self.bucket_id}"
            )
        result = self.hook.copy(self.bucket_id, self.key, self.dest_bucket_id, self.dest_key, **options)
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Copied %s/%s to %s, %s", self.bucket_id, self.key, lines.of_transfer(result), replicas)
        else:
            self.log.info("Nothing to copy: %s is there already", lines.of_transfer(result, speed=False))
        return result


class MictlanXDeleteOperator(MictlanXOperator):
    """
    Delete an object, several, or all that begin with a prefix; what is not there is deleted already.

    XCom with ``key``: ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks. With ``keys`` and
    ``prefix``: ``{bucket_id, deleted, absent, failed, total, response_time, failures}``; ``absent`` were not there, ``failures``
    are the first few as ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name; this, ``keys`` or ``prefix`` (templated)
    :param keys: the objects' names, a list that may be empty, as ``MictlanXListOperator`` gives it (templated)
    :param prefix: every object whose key begins with it, but for empty ones (size 0), which are in no listing; not ``""``, for
        which there is ``MictlanXDeleteBucketOperator`` (templated)
    :param fail_on_error: with ``keys`` and ``prefix``: fail the task where an object could not be deleted; False leaves that to the
        ``failed`` of the XCom
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_concurrency: objects that are deleted at the same time; default: the connection's, else 8
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "keys", "prefix", "mictlanx_conn_id")
    template_fields_renderers = {"keys": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str | None = None,
        keys: Iterable[str] | None = None,
        prefix: str | None = None,
        fail_on_error: bool = True,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = {"key": key, "keys": keys, "prefix": prefix}
        if len(names := [name for name, value in given.items() if value is not None]) != 1:
            raise ValueError(
                f"MictlanXDeleteOperator takes one of key, keys and prefix, and got {' and '.join(names) or 'none'}"
            )
        self.bucket_id = bucket_id
        self.key = key
        self.keys = keys
        self.prefix = prefix
        self.fail_on_error = fail_on_error
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete it, or them."""
        options: dict[str, Any] = {"timeout": self.timeout, "deadline": self.deadline}
        many = {**options, "max_concurrency": self.max_concurrency, "fail_on_error": self.fail_on_error}
        if self.keys is not None:
            return self.hook.delete_keys(self.bucket_id, self.keys, **many)
        if self.prefix is not None:
            return self.hook.delete_prefix(self.bucket_id, self.prefix, **many)
        if self.key is None:
            raise ValidationError(
                f"key, keys and prefix are all None after rendering: nothing says what to delete from bucket {self.bucket_id}"
            )
        result = self.hook.delete(self.bucket_id, self.key, **options)
        if result["n_deletes"]:
            replicas = pluralize(result["n_deletes"], "replica")
            self.log.info("Deleted %s/%s: %s of its chunks", self.bucket_id, self.key, replicas)
        else:
            self.log.info("Nothing to delete: %s/%s is not there", self.bucket_id, self.key)
        return result


class MictlanXDeleteBucketOperator(MictlanXOperator):
    """
    Delete every object that a bucket lists, until it lists none.

    MictlanX never lists empty objects (size 0), so they stay until they are deleted by their key.

    XCom: ``{bucket_id, deleted, failed, total, response_time}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param fail_on_error: fail the task where an object could not be deleted; False leaves that to the ``failed`` of the XCom
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_concurrency: objects that are deleted at the same time; default: the connection's, else the client's
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        fail_on_error: bool = True,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.fail_on_error = fail_on_error
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete them."""
        result = self.hook.delete_bucket(
            self.bucket_id, timeout=self.timeout, max_concurrency=self.max_concurrency, deadline=self.deadline
        )
        objects = pluralize(result["deleted"], "object")
        self.log.info("Deleted %s of bucket %s in %.1f s", objects, self.bucket_id, result["response_time"])
        if result["failed"]:
            problem = (
                f"{result['failed']} of {result['total']} objects of bucket {self.bucket_id!r} could not be deleted"
            )
            if self.fail_on_error:
                raise MictlanXError(
                    f"{problem}; the log names them, and why. Run the task again, or set fail_on_error=False to go on without them"
                )
            self.log.warning("%s", problem)
        return result


_HOW_TO_MAP = (
    "mapped tasks that share a bulk_id are its shards: give every one its shard, and all of them how many there are, as "
    "MictlanXBulkPutOperator.partial(bulk_id=…, shards=2).expand_kwargs([{'shard': 0, 'balls': […]}, {'shard': 1, 'balls': […]}]). "
    "Where every mapped task has a bulk_id of its own, say shards=1"
)


class MictlanXBulkPutOperator(MictlanXOperator):
    """
    Upload many files, or one shard of them, and keep in the storage itself how far it is.

    A task that runs again, also on another machine and after a crash, goes on where the last try ended: what is acknowledged
    is not sent again. ``BulkCompleteSensor`` and ``MictlanXAwaitBulkOperator`` follow it from other tasks, by its ``bulk_id``. To spread a bulk
    over workers, map the operator: ``.partial(bulk_id=…, source=…, shards=4).expand(shard=[0, 1, 2, 3])``.

    The ``bulk_id`` belongs to one task (per shard) of one DAG run: put the run into it, as ``"nightly-{{ ds_nodash }}"`` or
    ``"nightly-{{ run_id }}"``. A second run with the same one is refused before its first byte.

    XCom: ``{bulk_id, shard, shards, total_balls, uploaded, skipped, failed, uploaded_size, response_time}``; ``skipped`` were stored
    before. With ``fail_on_error=False`` also ``failures``, the first few of them: ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    :param bulk_id: any text, with the run in it (templated)
    :param bucket_id: of all balls; with ``balls``, of those that name none (templated)
    :param source: a file, a folder (with everything in it), a glob (``**`` stands for any folders), an ``ObjectStoragePath`` of
        another store, or a list of these; every worker that uploads a shard has to see it alike (templated)
    :param balls: instead of ``source``: dictionaries with ``key``, ``source`` (a path) or ``data`` (text or bytes), and optionally
        ``bucket_id`` and ``tags`` (templated)
    :param shard: which part this task uploads, from 0 (templated)
    :param shards: in how many parts the bulk is uploaded; default: 1 (templated)
    :param key_prefix: is put before every key as it is (templated)
    :param rf: on how many peers every chunk is to be stored
    :param chunk_size: how balls are cut, as ``"8MB"``; default: the connection's, else chosen by
        the size of each
    :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
    :param max_tries: per chunk
    :param max_backoff: the longest pause between two tries, in seconds
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param stop_on_failure: begin no further ball after the first failure
    :param replace: delete other bytes under a ball's key first, instead of reporting a failure
    :param tags: texts by name, kept with every ball (templated)
    :param allow_empty: whether a source in which nothing is found is a bulk of no balls, instead of an error
    :param fail_on_error: fail the task where a ball is not stored; False leaves that to the ``failed`` of the XCom
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = (
        *("bulk_id", "bucket_id", "source", "balls", "shard", "shards", "key_prefix", "tags"),
        "mictlanx_conn_id",
    )
    template_fields_renderers = {"balls": "json", "tags": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(
        self,
        *,
        bulk_id: str,
        bucket_id: str | None = None,
        source: Source | Sequence[Source] | None = None,
        balls: Iterable[Mapping[str, Any]] | None = None,
        shard: int | str = 0,
        shards: int | str | None = None,
        key_prefix: str = "",
        rf: int = 1,
        chunk_size: str | None = None,
        max_concurrency: int | None = None,
        max_tries: int = 5,
        max_backoff: float = 5,
        timeout: float | None = None,
        stop_on_failure: bool = False,
        replace: bool = False,
        tags: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (source is None) == (balls is None):
            given = "neither" if source is None else "both"
            raise ValueError(f"MictlanXBulkPutOperator takes either source or balls, and got {given}")
        self.bulk_id = bulk_id
        self.bucket_id = bucket_id
        self.source = source
        self.balls = balls
        self.shard = shard
        self.shards = shards
        self.key_prefix = key_prefix
        self.rf = rf
        self.chunk_size = chunk_size
        self.max_concurrency = max_concurrency
        self.max_tries = max_tries
        self.max_backoff = max_backoff
        self.timeout = timeout
        self.stop_on_failure = stop_on_failure
        self.replace = replace
        self.tags = tags
        self.allow_empty = allow_empty
        self.fail_on_error = fail_on_error

    def work(self, context: Context) -> dict[str, Any]:
        """Upload it."""
        owner = _owner(context)
        mapped = owner is not None and int(owner["map_index"]) >= 0
        if mapped and self.shards is None and self.balls is not None:
            raise ValidationError(_HOW_TO_MAP)
        try:
            return self._upload(owner, _will_retry(context))
        except BulkConflictError as error:
            if mapped and self.shards is None:
                raise BulkConflictError(f"{error}. If these are tasks of one mapped operator: {_HOW_TO_MAP}") from error
            raise

    def _upload(self, owner: Mapping[str, str] | None, will_retry: bool) -> dict[str, Any]:
        return self.hook.put_bulk(
            self.bulk_id,
            self.bucket_id,
            self.source,
            balls=self.balls,
            shard=_whole("shard", self.shard),
            shards=1 if self.shards is None else _whole("shards", self.shards),
            key_prefix=self.key_prefix,
            rf=self.rf,
            chunk_size=self.chunk_size,
            max_concurrency=self.max_concurrency,
            max_tries=self.max_tries,
            max_backoff=self.max_backoff,
            timeout=self.timeout,
            stop_on_failure=self.stop_on_failure,
            replace=self.replace,
            tags=self.tags,
            allow_empty=self.allow_empty,
            fail_on_error=self.fail_on_error,
            owner=owner,
            will_retry=will_retry,
        )


class MictlanXAwaitBulkOperator(MictlanXOperator):
    """
    Wait until every shard of a bulk is done, give what came of it, and clean up behind it.

    To gate tasks, take ``BulkCompleteSensor``, which has all modes of a sensor; this operator gives the result with every item if asked, and
    removes the bulk's records. It waits on the worker or in the triggerer; the result is the same.

    The end of the wait (``timeout``) fails the task at once, without a retry, as in a sensor. A bulk that failed for good does
    so too; with ``fail_on_error=False`` its result is given when no shard is under way any more.

    XCom: ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size, response_time, failures, problems}``;
    ``failures`` are the first few, as ``{bucket_id, key, code, message}``. With ``include_items`` all of them, and ``successes``
    as ``{bucket_id, key, size, checksum}``: that XCom grows with the bulk.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    :param bulk_id: the bulk, as the upload names it; one that nobody has planned yet is waited for (templated)
    :param remove_on_completion: delete the bulk's records, but for the result, which answers whoever asks again; its balls stay.
        Not before every task that follows the bulk by ``include_items`` or ``check_storage`` has ended
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    :param timeout: of the whole wait, in seconds or as a timedelta; default: none
    :param poke_interval: between two looks, in seconds or as a timedelta
    :param include_items: put the lists of all balls into the XCom
    :param fail_on_error: whether a bulk that failed for good is an error
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(
        self,
        *,
        bulk_id: str,
        remove_on_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float | None = None,
        poke_interval: timedelta | float = 60,
        include_items: bool = False,
        fail_on_error: bool = True,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.remove_on_completion = remove_on_completion
        self.deferrable = deferrable
        self.timeout = timeout
        self.poke_interval = poke_interval
        self.include_items = include_items
        self.fail_on_error = fail_on_error
        self.request_timeout = request_timeout

    def work(self, context: Context) -> dict[str, Any]:
        """Wait for it."""
        timeout = None if self.timeout is None else seconds("timeout", self.timeout)
        poke_interval = seconds("poke_interval", self.poke_interval)
        began = time.monotonic()
        try:
            return self._await(0 if self.deferrable else timeout, poke_interval)
        except DeadlineExceededError as error:
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if not self.deferrable or (left is not None and left <= 0):
                self._time_out(error)
        return self._defer_for(left, poke_interval)

    def _await(self, timeout: float | None, poke_interval: float) -> dict[str, Any]:
        return self.hook.await_bulk(
            self.bulk_id,
            poke_interval=poke_interval,
            timeout=timeout,
            fail_on_error=self.fail_on_error,
            include_items=self.include_items,
            remove_on_completion=self.remove_on_completion,
            request_timeout=self.request_timeout,
        )

    def _defer_for(self, left: float | None, poke_interval: float) -> dict[str, Any]:
        """Hand on to the trigger for the seconds that are left; raises ``TaskDeferred``."""
        self.defer(
            trigger=MictlanXBulkCompleteTrigger(
                bulk_id=self.bulk_id,
                fail_on_error=self.fail_on_error,
                mictlanx_conn_id=self.mictlanx_conn_id,
                poke_interval=poke_interval,
                ends_at=None if left is None else time.time() + left,
                request_timeout=self.request_timeout,
            ),
            method_name="execute_complete",
            timeout=None if left is None else timedelta(seconds=left),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral, with the errors of a task that never deferred."""
        with permanent_errors_fail_the_task():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if self.timeout is not None and is_timeout_of_deferral(error):
                    self._time_out(error)
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result, or raise the error that the trigger reported."""
        read_event(event, self._time_out)
        return self._await(0, 0)

    def _time_out(self, cause: BaseException | None = None) -> NoReturn:
        raise AirflowSensorTimeout(
            f"bulk {self.bulk_id!r} was not finished within the specified timeout of {self.timeout}; the log tells how far it is"
        ) from cause


def _owner(context: Context) -> dict[str, str] | None:
    """Tell who uploads; None where no task instance runs it."""
    task_instance = context.get("ti")
    if task_instance is None:
        return None
    return {name: str(getattr(task_instance, name)) for name in ("dag_id", "run_id", "task_id", "map_index")}


def _will_retry(context: Context) -> bool:
    """
    Tell whether Airflow runs the task again if this try fails.

    ``max_tries`` is the number of the last try but one, clearing included: 0 for a task without retries in its first run.
    """
    task_instance = context.get("ti")
    return task_instance is not None and 0 < task_instance.try_number <= task_instance.max_tries


def _whole(name: str, value: int | str) -> int:
    """Give a number that may have come as a text, from a template."""
    try:
        return int(value.strip()) if isinstance(value, str) else value
    except ValueError as error:
        raise ValidationError(f"{name} is a whole number, not {value!r}") from error
