"""
The connection form of Airflow before 3.2, which asks the hook for its fields (later ones read ``get_provider_info``).

wtforms, the application builder and Airflow 2's database models come with that Airflow, and are imported only when it asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_mictlanx.get_provider_info import get_provider_info


def connection_form_widgets() -> dict[str, Any]:
    """
    Return the fields of the provider info as wtforms fields; all of them show text, and store values of their type.

    There is no check box: it can't tell "never set" from "off", so that saving the form would switch TLS checks off.
    """
    # mypy runs beside a newer Airflow, which doesn't bring these.
    from flask_appbuilder import fieldwidgets  # type: ignore[import-not-found, unused-ignore]
    from flask_babel import lazy_gettext  # type: ignore[import-not-found, unused-ignore]
    from wtforms import StringField  # type: ignore[import-untyped, unused-ignore]

    def showing_text(widget: str) -> Any:
        """Return a widget that shows the stored value as text (Airflow takes no field classes but its own)."""

        class Widget(getattr(fieldwidgets, widget)):  # type: ignore[misc, unused-ignore]
            def __call__(self, field: Any, **kwargs: Any) -> Any:
                field.data = as_text(field.data)
                return super().__call__(field, **kwargs)

        return Widget()

    widgets = {}
    for name, spec in get_provider_info()["connection-types"][0]["conn-fields"].items():
        kind, description = spec["schema"]["type"][0], spec["description"]
        widgets[name] = StringField(
            lazy_gettext(spec["label"]),
            widget=showing_text("BS3TextAreaFieldWidget" if kind in ("array", "object") else "BS3TextFieldWidget"),
            description=f"true or false. {description}" if kind == "boolean" else description,
            **({} if AIRFLOW_V_3_0_PLUS else _typed(name, kind)),
        )
    return widgets


def _typed(name: str, kind: str) -> dict[str, Any]:
    """Return the arguments that make a field store typed values. The stand-ins of Airflow 3.0 and 3.1 take none."""
    return {"filters": [partial(as_value, kind)], "default": partial(_stored, name) if kind == "boolean" else None}


def _stored(name: str) -> Any:
    """
    Return a field of the extra of the connection that is being edited.

    Airflow fills the form from there itself, except for False, which would be shown as unset and be lost.
    """
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from flask import has_request_context, request  # type: ignore[import-not-found, unused-ignore]

    key = (request.view_args or {}).get("pk") if has_request_context() else None
    if key is None:
        return None  # a new one
    with create_session() as session:
        connection = session.get(Connection, key)
        extra = connection.extra_dejson if connection is not None else None
    return extra.get(name) if isinstance(extra, Mapping) else None


def as_text(value: Any) -> str:
    """Return a stored value as typed: a list as its lines, an object as ``Name: value`` lines, a bool in lower case."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {content}" for name, content in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def as_value(kind: str, value: Any) -> Any:
    """
    Parse typed text, the inverse of ``as_text``; invalid text stays unchanged, for the hook to report.

    :param kind: of JSON schema, as ``"number"``
    """
    read = _READERS.get(kind)
    if read is None or not isinstance(value, str) or not (text := value.strip()):
        return value
    return read(text)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _list_of(text: str) -> Any:
    return text if text.startswith("[") else _lines(text)


def _object_of(text: str) -> Any:
    lines = [line.partition(":") for line in _lines(text)]
    if text.startswith("{") or not all(colon for _, colon, _ in lines):
        return text
    return {name.strip(): content.strip() for name, _, content in lines}


def _json_of(text: str) -> Any:
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


_READERS: dict[str, Callable[[str], Any]] = {
    "array": _list_of,
    "object": _object_of,
    **dict.fromkeys(("boolean", "number", "integer"), _json_of),
}
