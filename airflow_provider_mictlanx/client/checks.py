"""Arguments, checked before the first request. Errors only."""

from __future__ import annotations

import math
from datetime import timedelta

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


def seconds(name: str, value: timedelta | float) -> float:
    """Give a time in seconds, or raise ``ValidationError`` that names the parameter."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise ValidationError(f"{name} is a timedelta or a number of seconds from 0 on, not {value!r}")
    return number


def text(name: str, value: str) -> str:
    """Give a text back, or raise ``ValidationError`` that names the parameter."""
    if not isinstance(value, str):
        raise ValidationError(f"{name} is a text, not {value!r}")
    return value
