"""Arguments that are numbers, checked before the first request. Errors only."""

from __future__ import annotations

from airflow_provider_mictlanx.client.errors import ValidationError


def whole_number(name: str, value: int, least: int = 1) -> int:
    """
    Give a whole number back, or raise ``ValidationError`` that names the parameter.

    :param least: the smallest that makes sense
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValidationError(f"{name} is a whole number from {least} on, not {value!r}")
    return value


def number_from_zero(name: str, value: float) -> float:
    """Give a number from 0 on back, or raise ``ValidationError`` that names the parameter."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValidationError(f"{name} is a number from 0 on, not {value!r}")
    return value
