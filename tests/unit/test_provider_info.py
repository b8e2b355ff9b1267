"""What Airflow reads about the package: valid, import-light, found, and shown in the connection form."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from importlib import resources
from typing import Any

import jsonschema
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS
from airflow.providers_manager import ProvidersManager

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.get_provider_info import get_provider_info
from airflow_provider_mictlanx.hooks import connection_form
from airflow_provider_mictlanx.hooks.connection import parse_connection
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.public_names import OPERATORS, SENSORS


@pytest.fixture(scope="module")
def connection_type() -> dict[str, Any]:
    (found,) = get_provider_info()["connection-types"]
    return found


def test_is_valid_for_the_installed_airflow() -> None:
    schema = json.loads(resources.files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_connection_fields_are_json_schemas(connection_type: dict[str, Any]) -> None:
    for field in connection_type["conn-fields"].values():
        jsonschema.Draft7Validator.check_schema(field["schema"])
        assert field["label"]
        assert "null" in field["schema"]["type"]


def test_imports_neither_airflow_nor_the_client() -> None:
    code = (
        "import sys; from airflow_provider_mictlanx.get_provider_info import get_provider_info; get_provider_info(); "
        "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'httpx', 'pydantic')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers", "bundles"])
def test_named_modules_are_there(kind: str) -> None:
    if kind == "bundles":
        pytest.importorskip("airflow.dag_processing.bundles", reason="Airflow 2 has no DAG bundles")
    info = get_provider_info()
    known = {integration["integration-name"] for integration in info["integrations"]}
    for entry in info[kind]:
        assert entry["integration-name"] in known
        for name in entry["python-modules"]:
            importlib.import_module(name)


def test_links_of_all_operators_are_declared() -> None:
    """Airflow 2 reads no link from its database that is not."""
    ours: list[Any] = [*OPERATORS, *SENSORS]
    used = {type(link) for kind in ours for link in kind.operator_extra_links}
    declared = [name.rpartition(".") for name in get_provider_info()["extra-links"]]
    assert {getattr(importlib.import_module(module), name) for module, _, name in declared} == used


def test_airflow_finds_provider_and_hook() -> None:
    manager = ProvidersManager()
    assert manager.providers["airflow-provider-mictlanx"].data["name"] == "MictlanX"
    hook = manager.hooks["mictlanx"]
    assert hook is not None
    assert hook.hook_class_name == "airflow_provider_mictlanx.hooks.mictlanx.MictlanXHook"
    assert hook.connection_id_attribute_name == "mictlanx_conn_id"
    assert hook.hook_name == "MictlanX"


@pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="reads the hook instead of the provider info")
def test_form_of_airflow_3_2_and_later(connection_type: dict[str, Any]) -> None:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (shown,) = (entry for entry in HookMetaService.hook_meta_data() if entry.connection_type == "mictlanx")
    assert shown.hook_name == "MictlanX"
    assert shown.standard_fields is not None
    assert shown.standard_fields.password is not None
    assert shown.standard_fields.password.title == "Token"
    assert not shown.standard_fields.port.hidden
    for hidden in (shown.standard_fields.login, shown.standard_fields.url_schema):
        assert hidden is not None
        assert hidden.hidden
    assert shown.extra_fields is not None
    assert list(shown.extra_fields) == list(connection_type["conn-fields"])
    # This is what makes the form show a text area with one URI per line.
    assert shown.extra_fields["routers"]["schema"]["items"] == {"type": "string"}
    assert shown.extra_fields["verify"]["value"] is True
    # And this a choice, with a name for "not set".
    assert shown.extra_fields["protocol"]["schema"]["enum"] == ["http", "https", None]
    assert shown.extra_fields["protocol"]["schema"]["values_display"] == {"None": "as the routers' URIs say"}
    assert shown.extra_fields["protocol"]["value"] is None


def test_form_of_airflow_2(connection_type: dict[str, Any]) -> None:
    """By Airflow's own form, with the widgets of the application builder."""
    forms = pytest.importorskip("airflow.www.forms")
    from flask import Flask
    from flask_babel import Babel

    app = Flask("form")
    app.config |= {"WTF_CSRF_ENABLED": False, "SECRET_KEY": "for this test"}
    Babel(app)
    with app.test_request_context():
        form = forms.create_connection_form_class()()
        assert ("mictlanx", "MictlanX") in form.conn_type.choices
        shown = [name for name in form.data if name.startswith("extra__mictlanx__")]
        assert shown == [f"extra__mictlanx__{name}" for name in connection_type["conn-fields"]]
        fields = {name: form[f"extra__mictlanx__{name}"] for name in connection_type["conn-fields"]}
        assert 'value=""' in fields["verify"]()
        fields["verify"].data = False
        assert 'value="false"' in fields["verify"]()
        # What was stored is shown as a person would type it, in a text area.
        fields["routers"].data = ["http://a:1", "http://b:2"]
        fields["headers"].data = {"X-A": "1"}
        assert str(fields["routers"]()).endswith("\r\nhttp://a:1\nhttp://b:2</textarea>")
        assert str(fields["headers"]()).endswith("\r\nX-A: 1</textarea>")
        for name, field in fields.items():
            assert str(field.label.text) == connection_type["conn-fields"][name]["label"]
            assert connection_type["conn-fields"][name]["description"] in field.description
            assert f'id="extra__mictlanx__{name}"' in field()


def test_hidden_and_renamed_fields_of_airflow_before_3_2() -> None:
    schema = json.loads(resources.files("airflow").joinpath("customized_form_field_behaviours.schema.json").read_text())
    behaviour = MictlanXHook.get_ui_field_behaviour()
    jsonschema.validate(behaviour, schema)
    assert behaviour["relabeling"]["password"] == "Token"
    assert {"login", "schema"} <= set(behaviour["hidden_fields"])


def test_every_field_of_the_form_is_one_that_the_hook_reads(connection_type: dict[str, Any]) -> None:
    from types import SimpleNamespace

    connection = SimpleNamespace(conn_id="c", host=None, login=None, password=None, port=None, schema=None)
    with pytest.raises(ValidationError) as caught:
        parse_connection(connection, {"no-such-field": 1})
    for name in connection_type["conn-fields"]:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (["a", "b"], "a\nb"),
        ({"A": "1", "B": "2"}, "A: 1\nB: 2"),
        ("a\nb", "a\nb"),
        (None, ""),
        (False, "false"),
        (2.5, "2.5"),
    ],
)
def test_stored_value_is_shown_in_lines(value: Any, lines: str) -> None:
    assert connection_form.as_text(value) == lines


@pytest.mark.parametrize(
    ("kind", "typed", "stored"),
    [
        ("array", " http://a:1\r\n\r\nhttp://b:2 ", ["http://a:1", "http://b:2"]),
        ("array", '["http://a:1"]', '["http://a:1"]'),
        ("object", "X-A: 1\r\nX-Url: http://c:3", {"X-A": "1", "X-Url": "http://c:3"}),
        ("object", '{"X-A": "1"}', '{"X-A": "1"}'),
        ("object", "no header", "no header"),
        ("boolean", "False", False),
        ("boolean", "off", "off"),
        ("number", "2.5", 2.5),
        ("integer", "4", 4),
        ("integer", "many", "many"),
        ("number", '"30"', '"30"'),
        ("string", "8", "8"),
        ("boolean", "", ""),
        ("boolean", None, None),
    ],
)
def test_what_is_typed_is_stored_in_its_type(kind: str, typed: Any, stored: Any) -> None:
    """And what is no such thing as it is, for the hook to say what is wrong with it."""
    assert (connection_form.as_value(kind, typed), type(connection_form.as_value(kind, typed))) == (
        stored,
        type(stored),
    )


def test_hook_can_be_made_by_airflow() -> None:
    assert next(iter(inspect.signature(MictlanXHook).parameters)) == MictlanXHook.conn_name_attr
    assert MictlanXHook().mictlanx_conn_id == "mictlanx_default"
