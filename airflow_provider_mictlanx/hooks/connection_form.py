"""
The connection form for Airflow before 3.2, which asks the hook for its fields; later versions read the provider info.

Only these versions of Airflow have wtforms and Flask-AppBuilder, so the functions import them when called.
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
    Return the fields of the provider info as wtforms fields, which show text and store typed values.

    A bool is a text field too. A check box can't distinguish "never set" from "off": saving the form would switch TLS
    verification off.
    """
    # mypy runs with a newer Airflow, which does not install these.
    from flask_appbuilder import fieldwidgets  # type: ignore[import-not-found, unused-ignore]
    from flask_babel import lazy_gettext  # type: ignore[import-not-found, unused-ignore]
    from wtforms import StringField  # type: ignore[import-untyped, unused-ignore]

    def make_widget(widget: str) -> Any:
        """Return a widget that shows the stored value as text: Airflow accepts only its own field classes."""

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
            widget=make_widget("BS3TextAreaFieldWidget" if kind in ("array", "object") else "BS3TextFieldWidget"),
            description=f"true or false. {description}" if kind == "boolean" else description,
            **({} if AIRFLOW_V_3_0_PLUS else _convert_values(name, kind)),
        )
    return widgets


def _convert_values(name: str, kind: str) -> dict[str, Any]:
    """Return the arguments that make a field store typed values; Airflow 3.0 and 3.1 accept none of them."""
    return {"filters": [partial(as_value, kind)], "default": partial(_read_stored, name) if kind == "boolean" else None}


def _read_stored(name: str) -> Any:
    """
    Return a field from the extra of the connection that is being edited; None for a new connection.

    Airflow itself fills the form from the extra, except for False: that would be shown as unset, and lost on saving.
    """
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from flask import has_request_context, request  # type: ignore[import-not-found, unused-ignore]

    key = (request.view_args or {}).get("pk") if has_request_context() else None
    if key is None:
        return None
    with create_session() as session:
        connection = session.get(Connection, key)
        extra = connection.extra_dejson if connection is not None else None
    return extra.get(name) if isinstance(extra, Mapping) else None


def as_text(value: Any) -> str:
    """Return a stored value as form text: a list as lines, an object as ``Name: value`` lines, a bool in lower case."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {content}" for name, content in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def as_value(kind: str, value: Any) -> Any:
    """
    Parse form text, the inverse of ``as_text``; invalid text is returned unchanged, and the hook reports it.

    :param kind: type in JSON schema, such as ``"number"``
    """
    read = _READERS.get(kind)
    if read is None or not isinstance(value, str) or not (text := value.strip()):
        return value
    return read(text)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _parse_list(text: str) -> Any:
    return text if text.startswith("[") else _lines(text)


def _parse_object(text: str) -> Any:
    lines = [line.partition(":") for line in _lines(text)]
    if text.startswith("{") or not all(colon for _, colon, _ in lines):
        return text
    return {name.strip(): content.strip() for name, _, content in lines}


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


_READERS: dict[str, Callable[[str], Any]] = {
    "array": _parse_list,
    "object": _parse_object,
    **dict.fromkeys(("boolean", "number", "integer"), _parse_json),
}
