"""Operators that delete, given out by ``operators.mictlanx``. Imports the client's errors and what operators have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.operators.base import MictlanXOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXDeleteOperator(MictlanXOperator):
    """
    Delete an object; one that is not there is deleted already.

    XCom: ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "mictlanx_conn_id")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        timeout: float | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.timeout = timeout
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete it."""
        result = self.hook.delete(self.bucket_id, self.key, timeout=self.timeout, deadline=self.deadline)
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
                    f"{problem}; a peer may be away. Run the task again, or set fail_on_error=False to go on without them"
                )
            self.log.warning("%s", problem)
        return result
