"""What goes wrong with a bulk as a whole. Knows the client's errors."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError


class BulkConflictError(ValidationError):
    """Somebody else uses the bulk id, or the same upload was told something else than before."""


class BulkFailedError(MictlanXError):
    """
    Not every ball of a bulk is stored.

    :ivar result: the summary that would have been given
    """

    default_error_code = 502

    def __init__(
        self,
        message: str = "",
        status_code: int | None = None,
        error_code: int | None = None,
        *,
        transient: bool | None = None,
        permanent: bool | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, status_code, error_code, transient=transient, permanent=permanent)
        self.result = {} if result is None else result
