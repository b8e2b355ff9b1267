"""Errors of a bulk as a whole."""

from __future__ import annotations

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.client.errors import ValidationError


class BulkConflictError(ValidationError):
    """Somebody else uses the bulk id, or the same upload was told something else than before."""


class BulkFailedError(BatchError):
    """Not every ball of a bulk is stored."""

    default_error_code = 502
