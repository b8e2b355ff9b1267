"""
The connection form of Airflow before 3.2, which asks the hook for its fields (later ones read ``get_provider_info``).

wtforms and the application builder come with that Airflow, and are imported only when it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.get_provider_info import get_provider_info


def connection_form_widgets() -> dict[str, Any]:
    """Give the same fields as the provider info, as wtforms fields: texts all of them, which the hook gives their types."""
    # mypy runs beside a newer Airflow, which doesn't bring these.
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found, unused-ignore]
        BS3TextAreaFieldWidget,
        BS3TextFieldWidget,
    )
    from flask_babel import lazy_gettext  # type: ignore[import-not-found, unused-ignore]
    from wtforms import StringField  # type: ignore[import-untyped, unused-ignore]

    class LinesWidget(BS3TextAreaFieldWidget):  # type: ignore[misc, unused-ignore]
        """A text area that shows a stored list or object line by line (Airflow takes no field classes but its own)."""

        def __call__(self, field: Any, **kwargs: Any) -> Any:
            field.data = as_lines(field.data)
            return super().__call__(field, **kwargs)

    widgets = {}
    for name, spec in get_provider_info()["connection-types"][0]["conn-fields"].items():
        label, description = lazy_gettext(spec["label"]), spec["description"]
        kind = spec["schema"]["type"][0]
        if kind in ("array", "object"):
            widgets[name] = StringField(label, widget=LinesWidget(), description=description)
        elif kind == "boolean":
            # No check box: it can't tell "never set" from "off", so that saving the form would switch TLS checks off.
            widgets[name] = StringField(
                label, widget=BS3TextFieldWidget(), default="true", description=f"true or false. {description}"
            )
        else:
            widgets[name] = StringField(label, widget=BS3TextFieldWidget(), description=description)
    return widgets


def as_lines(value: Any) -> str:
    """Give what the hook reads as the same again: a list as its lines, an object as ``Name: value`` lines."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {content}" for name, content in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)
