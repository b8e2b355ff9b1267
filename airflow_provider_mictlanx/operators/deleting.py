"""Operators that delete, given out by ``operators.mictlanx``. Imports the client's errors, ``links`` and what operators have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.links.mictlanx import MictlanXBucketLink
from airflow_provider_mictlanx.operators.base import MictlanXOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


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
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_concurrency: objects that are deleted at the same time; default: the connection's, else 8
    :param allow_reserved_bucket: delete from a bucket that begins with ``bulk-``, which may contain the records of a bulk
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
        request_timeout: float | None = None,
        max_concurrency: int | None = None,
        allow_reserved_bucket: bool = False,
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
        self.request_timeout = request_timeout
        self.max_concurrency = max_concurrency
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete it, or them."""
        options: dict[str, Any] = {
            "request_timeout": self.request_timeout,
            "allow_reserved_bucket": self.allow_reserved_bucket,
            "deadline": self.deadline,
        }
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
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_concurrency: objects that are deleted at the same time; default: the connection's, else the client's
    :param allow_reserved_bucket: delete from a bucket that begins with ``bulk-``, which may contain the records of a bulk
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
        request_timeout: float | None = None,
        max_concurrency: int | None = None,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.fail_on_error = fail_on_error
        self.request_timeout = request_timeout
        self.max_concurrency = max_concurrency
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete them."""
        result = self.hook.delete_bucket(
            self.bucket_id,
            request_timeout=self.request_timeout,
            max_concurrency=self.max_concurrency,
            allow_reserved_bucket=self.allow_reserved_bucket,
            deadline=self.deadline,
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
