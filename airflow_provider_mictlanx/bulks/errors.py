"""Errors of a bulk, as opposed to those of a single ball."""

from __future__ import annotations

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.client.errors import ValidationError


class BulkConflictError(ValidationError):
    """The bulk id has another owner, or was started with other parameters."""


class BulkFailedError(BatchError):
    """Some balls of a bulk are not stored."""

    default_error_code = 502
