"""
The operators, and their base classes ``MictlanXOperator`` and ``TransferOperator``.

Each operator passes its parameters to one method of the hook, and returns that method's result.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, Unpack

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, BaseOperator, conf
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.bulks.sync import BucketPath, side_of
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, MictlanXError, ValidationError
from airflow_provider_mictlanx.client.validation import check_seconds
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.arguments import RetryArguments, attributes, attributes_for
from airflow_provider_mictlanx.hooks.errors import TaskErrors, is_deferral_timeout, timeout_message
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook, Source
from airflow_provider_mictlanx.hooks.task import MictlanXTask
from airflow_provider_mictlanx.links.mictlanx import (
    MictlanXBucketLink,
    MictlanXBulkLink,
    MictlanXDestinationLink,
    MictlanXObjectLink,
    push_links,
)
from airflow_provider_mictlanx.operators.airflow_arguments import AirflowArguments
from airflow_provider_mictlanx.triggers.conditions import read_event
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBulkCompleteTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


T = TypeVar("T")

_TRANSFER = ("request_timeout", "max_tries", "max_concurrency", "max_backoff")
"""Parameters of ``TransferOperator`` that are passed to the hook's methods."""


class MictlanXArguments(AirflowArguments, total=False):
    """The keyword arguments of ``MictlanXOperator``, and Airflow's."""

    mictlanx_conn_id: str
    request_timeout: float | None


class TransferArguments(MictlanXArguments, RetryArguments):
    """The keyword arguments of ``TransferOperator``, and those of ``MictlanXArguments``."""


class MictlanXOperator(MictlanXTask, BaseOperator):
    """
    Base of the operators: a task that can be stopped, and fails without a retry for a permanent error.

    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: seconds for one request to the storage; default: the connection's, else 120
    """

    def __init__(
        self,
        *,
        mictlanx_conn_id: str = MictlanXHook.default_conn_name,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id
        self.request_timeout = request_timeout
        self._given: list[str] = []

    def _require_rendered(self, *names: str) -> None:
        """Remember which optional arguments were given: one that renders to None would widen what the task changes."""
        self._given = [name for name in names if getattr(self, name) is not None]

    @abstractmethod
    def _execute(self, context: Context) -> Any:
        """Call the hook, and return the XCom."""

    def execute(self, context: Context) -> Any:
        """Run the operator; raise a permanent error as ``AirflowFailException``, any other unchanged."""
        with TaskErrors(self):
            if lost := [name for name in self._given if getattr(self, name) is None]:
                raise ValidationError(f"{lost[0]} must not be None after rendering; omit it to use its default")
            push_links(self, context)
            return self._execute(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the locations that the task read, wrote and deleted; OpenLineage calls this, also after a failure."""
        from airflow_provider_mictlanx.lineage import to_openlineage

        return to_openlineage(self.hook.trace)

    def _call(self, method: Callable[..., T], *names: str, **arguments: Any) -> T:
        """Call a method of the hook with the named attributes of the operator, and with other arguments."""
        return method(**attributes(self, *names), **arguments)


class TransferOperator(MictlanXOperator):
    """
    Base of the operators that transfer objects, with the parameters that they share.

    Further parameters: see ``MictlanXOperator``. Most operators also have a ``deadline`` in seconds. An upload of a
    bulk has none: Airflow's ``execution_timeout`` ends it, and the next try continues.

    :param max_tries: tries per chunk, within one try of the task
    :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else chosen by the
        hook
    :param max_backoff: longest pause between two tries of a chunk, in seconds
    """

    def __init__(
        self,
        *,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff


class MictlanXPutOperator(TransferOperator):
    """
    Store a file, or a short str, under a key.

    A task that runs again sends only the chunks that are missing. Other bytes under the key are an error, unless
    ``replace`` is set.

    XCom: ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``; ``replicas`` is
    the smallest number over all chunks, ``uploaded`` is False if exactly these bytes were stored already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``TransferOperator``.

    :param bucket_id: the bucket: letters, digits, and single ``-`` or ``_`` between them (templated)
    :param key: the object's name, any str (templated)
    :param data: the content; a str is encoded as UTF-8. Airflow shows it in *Rendered Templates*, so use it for small
        and public content only (templated)
    :param file_path: instead of ``data``: the file to store, a path on the worker (templated)
    :param tags: dict of str, stored with the object (templated)
    :param chunk_size: size of the chunks, such as ``"256kb"`` or ``"8MB"``; default: the connection's, else chosen by
        the size
    :param rf: number of peers that must store every chunk
    :param replace: delete other bytes under that key first; after a crash between the two, nothing is stored until the
        retry
    :param allow_reserved_bucket: write to a bucket that begins with ``bulk-``, which may contain a bulk's records
    :param deadline: seconds for the upload; default: none
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
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.data = data
        self.file_path = file_path
        self.tags = tags
        self.chunk_size = chunk_size
        self.rf = rf
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline
        self._get_one_of("data", "file_path", error=ValueError)

    def _execute(self, context: Context) -> dict[str, Any]:
        name, content = self._get_one_of("data", "file_path")
        names = ("bucket_id", "key", "chunk_size", "rf", "tags", "replace", "allow_reserved_bucket", "deadline")
        if name == "data":
            result = self._call(self.hook.put, *names, *_TRANSFER, data=content)
        else:
            result = self._call(self.hook.put_file, *names, *_TRANSFER, path=content)
        if result["uploaded"]:
            self.log.info("Stored %s, %s", summaries.transfer_line(result), pluralize(result["replicas"], "replica"))
        else:
            self.log.info("Nothing to store: %s is stored already", summaries.transfer_line(result, speed=False))
        return result


class MictlanXGetOperator(TransferOperator):
    """
    Read a small object, verify it and return it as str.

    XCom: the str. The task fails if the object is larger than ``max_size``, before reading it, or can't be decoded. For
    larger objects use ``MictlanXGetToFileOperator``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``TransferOperator``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param encoding: name of a Python text encoding
    :param max_size: largest size to accept: bytes, or a str such as ``"48kb"``. Every database of Airflow can store an
        XCom of the default size
    :param deadline: seconds for the call; default: none
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
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.encoding = encoding
        self.max_size = max_size
        self.deadline = deadline

    def _execute(self, context: Context) -> str:
        text = self._call(self.hook.get_text, "bucket_id", "key", "encoding", "max_size", "deadline", *_TRANSFER)
        if "\0" in text:
            raise ValidationError(
                f"{self.bucket_id}/{self.key} must not contain NUL characters, which some databases of Airflow can't "
                "store as XCom; read it into a file"
            )
        self.log.info("Read %s/%s: %s", self.bucket_id, self.key, pluralize(len(text), "character"))
        return text


class MictlanXGetToFileOperator(TransferOperator):
    """
    Read an object into a file of the worker. The file appears when it is complete and verified.

    XCom: ``{bucket_id, key, ball_id, path, size, checksum, num_chunks, downloaded, response_time,
    verified}``; ``verified`` is False if its writer recorded no SHA-256 of the complete object; ``downloaded`` is
    False if a file with this content existed already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``TransferOperator``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param output_path: a folder on the worker; created if missing (templated)
    :param filename: name of the file, without folders; default: the key's last component (templated)
    :param replace: overwrite a file with other content, instead of failing
    :param deadline: seconds for the download; default: none
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
        replace: bool = False,
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.output_path = output_path
        self.filename = filename
        self.replace = replace
        self.deadline = deadline

    def _execute(self, context: Context) -> dict[str, Any]:
        names = ("bucket_id", "key", "output_path", "filename", "replace", "deadline")
        result = self._call(self.hook.get_to_file, *names, *_TRANSFER)
        if result["downloaded"]:
            self.log.info("Read %s into %s", summaries.transfer_line(result), result["path"])
        else:
            size = summaries.transfer_line(result, speed=False)
            self.log.info("Nothing to read: file %s has the content of %s already", result["path"], size)
        return result


class MictlanXGetToFolderOperator(TransferOperator):
    """
    Read many objects into a folder of the worker or of another store: a bucket, a part of it, or a bulk.

    The key of each object is the path of its file in the folder. Existing files with the right checksum are kept, so a
    task that runs again reads only what is missing; in another store, files of the right size are read to compare them.
    Every file appears when it is complete and verified, and never outside the folder. An object fails if its key can't
    be a file there, or if another key would be the same file; the others are read.

    XCom: ``{bucket_id, prefix, glob, bulk_id, output_path, total_balls, downloaded, skipped, failed, downloaded_size,
    response_time, failures, unverified}``; ``skipped`` existed already, ``unverified`` counts downloaded objects whose
    writer recorded no SHA-256 of the complete object, ``failures`` are the first few as ``{bucket_id, key, code,
    message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``TransferOperator``.

    :param output_path: a folder on the worker, created if missing, or one of another store (``ObjectStoragePath``).
        Objects for another store pass through a temporary folder of the worker (templated)
    :param bucket_id: the bucket; this or ``bulk_id`` (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any characters (``/`` too), ``?`` one character, ``[ab]`` one of these;
        not together with ``prefix`` (templated)
    :param bulk_id: instead of ``bucket_id``: a complete bulk; reads exactly the bytes that it uploaded. Wait for it
        with ``BulkCompleteSensor`` (templated)
    :param replace: overwrite files with other content, instead of counting them as failures
    :param fail_on_error: fail the task if an object could not be read; False only counts it in ``failed``
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("output_path", "bucket_id", "prefix", "glob", "bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(), MictlanXBulkLink())

    def __init__(
        self,
        *,
        output_path: Source,
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        bulk_id: str | None = None,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.output_path = output_path
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.bulk_id = bulk_id
        self.replace = replace
        self.fail_on_error = fail_on_error
        self.deadline = deadline
        self._get_one_of("bucket_id", "bulk_id", error=ValueError)

    def _execute(self, context: Context) -> dict[str, Any]:
        names = ("output_path", "bucket_id", "prefix", "glob", "bulk_id", "replace", "fail_on_error", "deadline")
        return self._call(self.hook.get_to_folder, *names, *_TRANSFER)


class MictlanXListOperator(MictlanXOperator):
    """
    List the keys of a bucket, or the "folders" in them: all, or those that match a prefix or a glob.

    XCom: the sorted list of keys or folders, for ``.expand(key=listing.output)``. The task fails if there are more than
    ``max_keys``, before they flood XCom or exceed Airflow's ``[core] max_map_length``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bucket_id: the bucket; one that does not exist yet has no keys (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any characters (``/`` too), ``?`` one character, ``[ab]`` one of these;
        not together with ``prefix`` (templated)
    :param delimiter: list the folders directly below ``prefix``, such as ``["2026/01/", "2026/02/"]`` for ``"/"`` and
        ``prefix="2026/"``; not together with ``glob`` (templated)
    :param max_keys: limit for the number of keys or folders; None for no limit
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("bucket_id", "prefix", "glob", "delimiter", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        delimiter: str = "",
        max_keys: int | None = 1000,
        deadline: float | None = None,
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.delimiter = delimiter
        self.max_keys = max_keys
        self.deadline = deadline

    def _execute(self, context: Context) -> list[str]:
        names = ("bucket_id", "prefix", "glob", "delimiter", "max_keys", "request_timeout", "deadline")
        keys = self._call(self.hook.list_keys, *names)
        selected = self.glob or f"{self.prefix}*"
        count = pluralize(len(keys), "folder" if self.delimiter else "key")
        self.log.info("Listed %s of bucket %s: %s", selected, self.bucket_id, count)
        return keys


class MictlanXCopyOperator(TransferOperator):
    """
    Copy an object, or all that begin with a prefix, to another key, another bucket or another connection.

    The bytes pass through the worker chunk by chunk, with bounded memory and without its disk. Both sides are verified.
    The copies keep the tags. Bytes that are stored already are not sent, so a task that runs again sends only what is
    missing. Other bytes under a copy's key are an error, unless ``replace`` is set.

    XCom with ``key``: of the copy ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded,
    response_time}``, and ``source_bucket_id, source_key``; ``uploaded`` is False if the bytes were stored already.
    With ``prefix``: ``{bucket_id, prefix, dest_bucket_id, dest_prefix, total_balls, copied, skipped, failed,
    copied_size, response_time, failures}``; ``skipped`` were stored already, ``failures`` are the first few as
    ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``TransferOperator``; ``mictlanx_conn_id`` is the connection of the originals.

    :param bucket_id: the bucket of the originals (templated)
    :param dest_bucket_id: the bucket of the copies (templated)
    :param key: the object; this or ``prefix`` (templated)
    :param prefix: every object whose key begins with it; ``""`` for every object of the bucket (templated)
    :param dest_key: the copy's key; default: the original's (templated)
    :param dest_prefix: replaces ``prefix`` in the copies' keys; default: they keep their keys (templated)
    :param dest_conn_id: the connection of the copies; default: ``mictlanx_conn_id`` (templated)
    :param rf: number of peers that must store every chunk of a copy
    :param replace: delete other bytes under a copy's key first; after a crash between the two, nothing is stored until
        the retry
    :param allow_reserved_bucket: copy to a bucket that begins with ``bulk-``, which may contain a bulk's records
    :param fail_on_error: with ``prefix``: fail the task if an object could not be copied; False only counts it in
        ``failed``
    :param deadline: seconds for the call; default: none
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
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.dest_bucket_id = dest_bucket_id
        self.key = key
        self.prefix = prefix
        self.dest_key = dest_key
        self.dest_prefix = dest_prefix
        self.dest_conn_id = dest_conn_id
        self.rf = rf
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.fail_on_error = fail_on_error
        self.deadline = deadline
        name, _ = self._get_one_of("key", "prefix", error=ValueError)
        if (dest_key is not None and name == "prefix") or (dest_prefix is not None and name == "key"):
            raise ValueError(f"{self.label}: dest_key must be given with key only, and dest_prefix with prefix only")
        self._require_rendered("dest_key", "dest_prefix", "dest_conn_id")

    @cached_property
    def dest_hook(self) -> MictlanXHook:
        """The hook of the copies' connection."""
        return self.hook if self.dest_conn_id is None else MictlanXHook(self.dest_conn_id)

    def _execute(self, context: Context) -> dict[str, Any]:
        name, _ = self._get_one_of("key", "prefix")
        names = ("bucket_id", "dest_bucket_id", "dest_conn_id", "rf", "replace", "allow_reserved_bucket", "deadline")
        if name == "prefix":
            return self._call(self.hook.copy_prefix, *names, *_TRANSFER, "prefix", "dest_prefix", "fail_on_error")
        result = self._call(self.hook.copy, *names, *_TRANSFER, "key", "dest_key")
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Copied %s/%s to %s, %s", self.bucket_id, self.key, summaries.transfer_line(result), replicas)
        else:
            self.log.info("Nothing to copy: %s is stored already", summaries.transfer_line(result, speed=False))
        return result


class MictlanXSyncOperator(TransferOperator):
    """
    Make a destination like its source: transfer what is missing there or has other bytes, and replace these.

    Each side is a folder of the worker, ``mictlanx://[conn_id@]bucket[/prefix]``, or an ``ObjectStoragePath``; at least
    one of them is in MictlanX. Names are compared, then sizes, then SHA-256, never times. A task that runs again mends
    an interrupted one.

    XCom: ``{source, destination, dry_run, total_balls, transferred, skipped, failed, transferred_size, deleted,
    deleted_size, response_time, failures, first_transferred, first_deleted}``; ``total_balls`` are those of the source,
    ``skipped`` were equal, ``failures`` are the first few as ``{bucket_id, key, code, message}``. The last two are the
    first names that differed or were deleted, relative to the sides. A dry run names what a run would do.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/sync.md``.

    Further parameters: see ``TransferOperator``; ``mictlanx_conn_id`` is the connection of a side without one.

    :param source: what the destination becomes like (templated)
    :param destination: created if missing (templated)
    :param delete_extra: delete what the source lacks. This happens last, and only if nothing failed. Both sides are
        listed again before: what changed meanwhile is kept
    :param dry_run: only compare
    :param allow_empty: accept an empty source with ``delete_extra``, instead of failing
    :param check_storage: read the objects of a destination bucket that seem equal: the listing shows announcements, not
        data. False trusts the listing: an upload that was killed may then stay incomplete
    :param rf: number of peers that must store every chunk
    :param chunk_size: size of the chunks, such as ``"8MB"``; default: the connection's, else chosen by the size of each
        object
    :param fail_on_error: fail the task if an object could not be transferred or deleted; False only counts it in
        ``failed``
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("source", "destination", "mictlanx_conn_id")
    operator_extra_links = (MictlanXDestinationLink(),)

    def __init__(
        self,
        *,
        source: Source,
        destination: Source,
        delete_extra: bool = False,
        dry_run: bool = False,
        allow_empty: bool = False,
        check_storage: bool = True,
        rf: int = 1,
        chunk_size: str | None = None,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.delete_extra = delete_extra
        self.is_dry_run = dry_run  # ``dry_run`` is a method of Airflow's operators
        self.allow_empty = allow_empty
        self.check_storage = check_storage
        self.rf = rf
        self.chunk_size = chunk_size
        self.fail_on_error = fail_on_error
        self.deadline = deadline

    @property
    def dest_bucket_id(self) -> str | None:
        """The bucket that is written to; None for another destination."""
        side = side_of(self.destination)
        return side.bucket_id if isinstance(side, BucketPath) else None

    @property
    def dest_hook(self) -> MictlanXHook:
        """The hook of that bucket's connection."""
        side = side_of(self.destination)
        conn_id = side.conn_id if isinstance(side, BucketPath) else ""
        return MictlanXHook(conn_id) if conn_id else self.hook

    def _execute(self, context: Context) -> dict[str, Any]:
        names = ("source", "destination", "delete_extra", "allow_empty", "check_storage")
        options = ("rf", "chunk_size", "fail_on_error", "deadline")
        return self._call(self.hook.synchronize, *names, *options, *_TRANSFER, dry_run=self.is_dry_run)


class MictlanXDeleteOperator(MictlanXOperator):
    """
    Delete one object, several objects, or all that match a prefix or a glob; a missing object is not an error.

    With ``older_than`` or ``keep_last``, only complete objects are deleted; an upload under way is kept, and so are
    objects that change while the operator runs. Without them, half-written objects are deleted too, and so are those
    that are written meanwhile.

    XCom with ``key``: ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.
    With ``keys``: ``{bucket_id, deleted, absent, failed, total, response_time, failures}``; ``absent`` were not stored.
    With ``prefix`` and ``glob``: ``{bucket_id, prefix, glob, dry_run, deleted, kept, failed, total, bytes, first,
    response_time, failures}``; ``kept`` match and stay, ``bytes`` is the size of the deleted objects, ``first`` are the
    first 20 of their keys, sorted. ``failures`` are the first few as ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name; this, ``keys``, ``prefix`` or ``glob`` (templated)
    :param keys: a list of names, such as the XCom of ``MictlanXListOperator``; may be empty (templated)
    :param prefix: every object whose key begins with it (templated)
    :param glob: every object whose key matches: ``*`` any characters (``/`` too), ``?`` one character, ``[ab]`` one of
        these (templated)
    :param older_than: with ``prefix`` and ``glob``: only objects written before this age or time, by the storage's
        clocks: a timedelta, a datetime with a time zone, or a str such as ``"30d"`` or ``"{{ data_interval_start }}"``
        (templated)
    :param keep_last: with ``prefix`` and ``glob``: keep this number of newest objects, of those that match
    :param dry_run: with ``prefix`` and ``glob``: delete nothing, and return what would be deleted
    :param allow_whole_bucket: allow a ``prefix`` or ``glob`` that every key matches, such as ``""``
    :param allow_reserved_bucket: delete from a bucket that begins with ``bulk-``, which may contain a bulk's records
    :param fail_on_error: fail the task if one of several objects could not be deleted; False only counts it in
        ``failed``
    :param max_concurrency: objects deleted at the same time; default: the connection's, else 8
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "keys", "prefix", "glob", "older_than", "mictlanx_conn_id")
    template_fields_renderers = {"keys": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str | None = None,
        keys: Iterable[str] | None = None,
        prefix: str | None = None,
        glob: str | None = None,
        older_than: timedelta | datetime | str | None = None,
        keep_last: int | None = None,
        dry_run: bool = False,
        fail_on_error: bool = True,
        max_concurrency: int | None = None,
        allow_whole_bucket: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.keys = keys
        self.prefix = prefix
        self.glob = glob
        self.older_than = older_than
        self.keep_last = keep_last
        self.is_dry_run = dry_run  # ``dry_run`` is a method of Airflow's operators
        self.fail_on_error = fail_on_error
        self.max_concurrency = max_concurrency
        self.allow_whole_bucket = allow_whole_bucket
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline
        name, _ = self._get_one_of("key", "keys", "prefix", "glob", error=ValueError)
        if name in ("key", "keys") and (older_than is not None or keep_last is not None or dry_run):
            raise ValueError(f"{self.label}: older_than, keep_last and dry_run must be given with prefix or glob only")
        self._require_rendered("older_than")

    def _execute(self, context: Context) -> dict[str, Any]:
        name, _ = self._get_one_of("key", "keys", "prefix", "glob")
        names = ("bucket_id", "request_timeout", "allow_reserved_bucket", "deadline")
        if name == "keys":
            return self._call(self.hook.delete_keys, name, *names, "max_concurrency", "fail_on_error")
        if name in ("prefix", "glob"):
            which = ("older_than", "keep_last", "allow_whole_bucket", "max_concurrency", "fail_on_error")
            return self._call(self.hook.delete_matching, name, *which, *names, dry_run=self.is_dry_run)
        result = self._call(self.hook.delete, "key", *names)
        if result["n_deletes"]:
            replicas = pluralize(result["n_deletes"], "replica")
            self.log.info("Deleted %s/%s: %s of its chunks", self.bucket_id, self.key, replicas)
        else:
            self.log.info("Nothing to delete: %s/%s is not stored", self.bucket_id, self.key)
        return result


class MictlanXDeleteBucketOperator(MictlanXOperator):
    """
    Delete every object that a bucket lists, and repeat until the listing is empty.

    XCom: ``{bucket_id, deleted, failed, total, response_time}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bucket_id: the bucket (templated)
    :param allow_reserved_bucket: delete from a bucket that begins with ``bulk-``, which may contain a bulk's records
    :param fail_on_error: fail the task if an object could not be deleted; False only counts it in ``failed``
    :param max_concurrency: objects deleted at the same time; default: the connection's, else the client's
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("bucket_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        fail_on_error: bool = True,
        max_concurrency: int | None = None,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.fail_on_error = fail_on_error
        self.max_concurrency = max_concurrency
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline

    def _execute(self, context: Context) -> dict[str, Any]:
        names = ("bucket_id", "request_timeout", "max_concurrency", "allow_reserved_bucket", "deadline")
        result = self._call(self.hook.delete_bucket, *names)
        objects = pluralize(result["deleted"], "object")
        self.log.info("Deleted %s of bucket %s in %.1f s", objects, self.bucket_id, result["response_time"])
        if result["failed"]:
            problem = f"deleting {result['failed']} of {result['total']} objects of bucket {self.bucket_id!r} failed"
            if self.fail_on_error:
                raise MictlanXError(
                    f"{problem}; the log names them and their causes. Run the task again, or set fail_on_error=False "
                    "to continue without them"
                )
            self.log.warning("%s", problem)
        return result


class MictlanXSweepOperator(MictlanXOperator):
    """
    Remove uploads that stopped half-way, which no listing of objects shows, and old records of a bulk.

    An upload is removed if some of its chunks are missing, and its newest chunk is older than ``older_than``. Complete
    objects stay, empty ones too. In the bucket of a bulk, ``bulk-{bulk_id}``, all its records are removed if the newest
    is older than ``older_than``. By default, the operator only reports what it would remove.

    XCom: ``{bucket_id, dry_run, deleted, kept, failed, total, bytes, first, response_time, failures}``; ``kept`` are
    younger uploads and records, and those that changed meanwhile; ``bytes`` is the announced size of the removed
    chunks, ``first`` are the first 20 keys, sorted; ``failures`` are the first few as ``{bucket_id, key, code,
    message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bucket_id: the bucket (templated)
    :param older_than: an age or time, longer ago than the pauses of uploads that a retry continues: a timedelta, a
        datetime with a time zone, or a str such as ``"7d"`` (templated)
    :param dry_run: remove nothing, and return what would be removed
    :param fail_on_error: fail the task if an upload could not be removed; False only counts it in ``failed``
    :param max_concurrency: uploads removed at the same time; default: the connection's, else 8
    :param deadline: seconds for the call; default: none
    """

    template_fields: Sequence[str] = ("bucket_id", "older_than", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        older_than: timedelta | datetime | str,
        dry_run: bool = True,
        fail_on_error: bool = True,
        max_concurrency: int | None = None,
        deadline: float | None = None,
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.older_than = older_than
        self.is_dry_run = dry_run  # ``dry_run`` is a method of Airflow's operators
        self.fail_on_error = fail_on_error
        self.max_concurrency = max_concurrency
        self.deadline = deadline

    def _execute(self, context: Context) -> dict[str, Any]:
        names = ("bucket_id", "older_than", "fail_on_error", "max_concurrency", "request_timeout", "deadline")
        return self._call(self.hook.sweep, *names, dry_run=self.is_dry_run)


_HOW_TO_MAP = (
    "mapped tasks that share a bulk_id are its shards: set shard for each, and shards (their number) for all, as in "
    "MictlanXBulkPutOperator.partial(bulk_id=…, shards=2).expand_kwargs([{'shard': 0, 'balls': […]}, "
    "{'shard': 1, 'balls': […]}]). If every mapped task has its own bulk_id, set shards=1"
)


class MictlanXBulkPutOperator(TransferOperator):
    """
    Upload many files as a bulk, or one shard of it, and record the progress in the storage itself.

    A task that runs again continues where the last try ended, also on another machine and after a crash: acknowledged
    objects are not sent again. Other tasks wait for the bulk by its ``bulk_id``, with ``BulkCompleteSensor`` or
    ``MictlanXAwaitBulkOperator``. To spread a bulk over workers, map the operator:
    ``.partial(bulk_id=…, source=…, shards=4).expand(shard=[0, 1, 2, 3])``.

    A ``bulk_id`` belongs to one task (per shard) of one DAG run: include the run id, as in ``"nightly-{{ run_id }}"``.
    A second run with the same bulk id fails before it sends anything.

    XCom: ``{bulk_id, shard, shards, total_balls, uploaded, skipped, failed, uploaded_size, response_time}``;
    ``skipped`` were stored before. With ``fail_on_error=False`` also ``failures``: the first few, as
    ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    Further parameters: see ``TransferOperator``.

    :param bulk_id: any str; include the run id (templated)
    :param bucket_id: the bucket of all objects; with ``balls``, of those without a ``bucket_id`` (templated)
    :param source: a file, a folder (with everything in it), a glob (``**`` matches any folders), an
        ``ObjectStoragePath`` of another store, or a list of these; every worker that uploads a shard must see the same
        files (templated)
    :param balls: instead of ``source``: dicts with ``key``, ``source`` (a path) or ``data`` (str or bytes), and
        optionally ``bucket_id`` and ``tags`` (templated)
    :param shard: index of the shard to upload, from 0 (templated)
    :param shards: number of shards of the bulk; default: 1 (templated)
    :param key_prefix: prepended to every key (templated)
    :param rf: number of peers that must store every chunk
    :param chunk_size: size of the chunks, such as ``"8MB"``; default: the connection's, else chosen by the size of each
        object
    :param stop_on_failure: start no further object after the first failure
    :param replace: delete other bytes under an object's key first, instead of reporting a failure
    :param tags: dict of str, stored with every object (templated)
    :param allow_empty: upload a bulk without objects if the source has no files, instead of raising an error
    :param allow_reserved_bucket: write to a bucket that begins with ``bulk-``, which may contain another bulk's records
    :param fail_on_error: fail the task if an object is not stored; False only counts it in ``failed``
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
        stop_on_failure: bool = False,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        tags: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        **kwargs: Unpack[TransferArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.bucket_id = bucket_id
        self.source = source
        self.balls = balls
        self.shard = shard
        self.shards = shards
        self.key_prefix = key_prefix
        self.rf = rf
        self.chunk_size = chunk_size
        self.stop_on_failure = stop_on_failure
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.tags = tags
        self.allow_empty = allow_empty
        self.fail_on_error = fail_on_error
        self._get_one_of("source", "balls", error=ValueError)

    def _execute(self, context: Context) -> dict[str, Any]:
        owner = _get_owner(context)
        mapped_without_shards = self.shards is None and owner is not None and int(owner["map_index"]) >= 0
        if mapped_without_shards and self.balls is not None:
            raise ValidationError(_HOW_TO_MAP)
        try:
            return self._call(
                self.hook.put_bulk,
                *("bulk_id", "bucket_id", "source", "balls", "key_prefix", "rf", "chunk_size", "stop_on_failure"),
                *("replace", "allow_reserved_bucket", "tags", "allow_empty", "fail_on_error"),
                *_TRANSFER,
                shard=_parse_int("shard", self.shard),
                shards=1 if self.shards is None else _parse_int("shards", self.shards),
                owner=owner,
                will_retry=_will_retry(context),
            )
        except BulkConflictError as error:
            if mapped_without_shards:
                raise BulkConflictError(f"{error}. If these are tasks of one mapped operator: {_HOW_TO_MAP}") from error
            raise


class MictlanXAwaitBulkOperator(MictlanXOperator):
    """
    Wait until every shard of a bulk is complete, return its result, and optionally delete its records.

    To make tasks wait, use ``BulkCompleteSensor``, which has all modes of a sensor. This operator can return every
    object, and can delete the bulk's records. It waits on the worker or in the triggerer, with the same result.

    After ``timeout`` the task fails without a retry, like a sensor. It also does if the bulk failed permanently; with
    ``fail_on_error=False`` it returns the result instead, once no shard is being uploaded.

    XCom: ``{bulk_id, state, shards, total_balls, succeeded, failed, uploaded_size, response_time, failures,
    problems}``; ``failures`` are the first few, as ``{bucket_id, key, code, message}``. With ``include_items`` it has
    all failures, and ``successes`` as ``{bucket_id, key, size, checksum}``: that XCom grows with the bulk.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bulk_id: the bulk; it need not be planned yet (templated)
    :param remove_on_completion: delete the bulk's records, except the result, which answers later calls; its objects
        stay. Set it only if no later task uses the bulk with ``include_items`` or ``check_storage``
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``
    :param timeout: limit for the wait, in seconds or as a timedelta; default: none
    :param poke_interval: pause between two pokes, in seconds or as a timedelta
    :param include_items: add the lists of all objects to the XCom
    :param fail_on_error: fail the task if the bulk failed permanently
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
        **kwargs: Unpack[MictlanXArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.remove_on_completion = remove_on_completion
        self.deferrable = deferrable
        self.timeout = timeout
        self.poke_interval = poke_interval
        self.include_items = include_items
        self.fail_on_error = fail_on_error

    def _execute(self, context: Context) -> dict[str, Any]:
        timeout = None if self.timeout is None else check_seconds("timeout", self.timeout)
        poke_interval = check_seconds("poke_interval", self.poke_interval)
        began = time.monotonic()
        try:
            return self._await(0 if self.deferrable else timeout, poke_interval)
        except DeadlineExceededError:
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if not self.deferrable or (left is not None and left <= 0):
                self._time_out()
        return self._defer(left, poke_interval)

    def _defer(self, left: float | None, poke_interval: float) -> NoReturn:
        changed = {"poke_interval": poke_interval, "ends_at": None if left is None else time.time() + left}
        self.defer(
            trigger=MictlanXBulkCompleteTrigger(**attributes_for(MictlanXBulkCompleteTrigger, self) | changed),
            method_name="execute_complete",
            timeout=None if left is None else timedelta(seconds=left),
        )

    def _await(self, timeout: float | None, poke_interval: float) -> dict[str, Any]:
        names = ("bulk_id", "fail_on_error", "include_items", "remove_on_completion", "request_timeout")
        return self._call(self.hook.await_bulk, *names, poke_interval=poke_interval, timeout=timeout)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the deferral; errors are those of a task that did not defer."""
        with TaskErrors(self):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if self.timeout is not None and is_deferral_timeout(error):
                    self._time_out()
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result, or raise the error that the trigger reported."""
        read_event(event, self._time_out)
        return self._await(0, 0)

    def _time_out(self) -> NoReturn:
        problem = f"waiting for bulk {self.bulk_id!r} failed: it is not finished after the timeout of {self.timeout}"
        raise AirflowSensorTimeout(timeout_message(problem, self.mictlanx_conn_id)) from None


class MictlanXDeleteBulkOperator(MictlanXOperator):
    """
    Forget a bulk: delete its records. Its objects stay, and its ``bulk_id`` can be used again.

    An unknown bulk is not an error. A bulk that is being uploaded is forgotten too, so the operator belongs behind the
    tasks that wait for the bulk and read it.

    XCom: ``{bulk_id, deleted, failed, total, response_time}``, which count records.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    Further parameters: see ``MictlanXOperator``.

    :param bulk_id: the bulk (templated)
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(self, *, bulk_id: str, **kwargs: Unpack[MictlanXArguments]) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id

    def _execute(self, context: Context) -> dict[str, Any]:
        result = self._call(self.hook.delete_bulk, "bulk_id", "request_timeout")
        records = pluralize(result["deleted"], "record")
        self.log.info("Forgot bulk %r: deleted %s in %.1f s", self.bulk_id, records, result["response_time"])
        if result["failed"]:
            raise MictlanXError(
                f"deleting {result['failed']} of {result['total']} records of bulk {self.bulk_id!r} failed; run the "
                "task again"
            )
        return result


def _get_owner(context: Context) -> dict[str, str] | None:
    """Return the identity under which the task instance uploads; None without a task instance."""
    task_instance = context.get("ti")
    if task_instance is None:
        return None
    return {name: str(getattr(task_instance, name)) for name in ("dag_id", "run_id", "task_id", "map_index")}


def _will_retry(context: Context) -> bool:
    """
    Return whether Airflow runs the task again if this try fails.

    ``max_tries`` is the number of the second-to-last try, and grows when the task is cleared. It is 0 for a task
    without retries in its first run.
    """
    task_instance = context.get("ti")
    return task_instance is not None and 0 < task_instance.try_number <= task_instance.max_tries


def _parse_int(name: str, value: int | str) -> int:
    """Return an int that a template may have rendered as str."""
    try:
        return int(value.strip()) if isinstance(value, str) else value
    except ValueError as error:
        raise ValidationError(f"{name} must be an int, got {value!r}") from error
