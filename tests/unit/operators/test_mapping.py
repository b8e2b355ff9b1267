"""Dynamic task mapping takes every parameter, shared ones too, and every class refuses unknown names."""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator, TransferOperator
from tests.support.public_names import OPERATORS, SENSORS

CLASSES: list[Any] = [*OPERATORS, *SENSORS]

LEFT_OUT = {
    "MictlanXPutOperator": {"file_path"},
    "MictlanXGetToFolderOperator": {"bulk_id"},
    "MictlanXCopyOperator": {"prefix", "dest_prefix"},
    "MictlanXDeleteOperator": {"key", "keys", "glob"},
    "MictlanXBulkPutOperator": {"balls"},
    "MictlanXObjectSensor": {"prefix", "glob"},
}
"""Parameters that exclude another one of the class."""
FUNCTIONS = {"one": min, "two": max}
STORED_AS = {"dry_run": "is_dry_run"}
"""Attributes that are called otherwise: Airflow's operators have a method of the parameter's name."""
TEMPLATED = {
    "bucket_id",
    "bulk_id",
    "key",
    "keys",
    "prefix",
    "glob",
    "tags",
    "file_path",
    "output_path",
    "source",
    "destination",
    "mictlanx_conn_id",
}


def parameters_of(kind: type) -> set[str]:
    """Return the parameters of a class and of its bases in the package."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("airflow_provider_mictlanx.")]
    found = [parameter for base in ours for parameter in inspect.signature(base.__init__).parameters.values()]
    return {parameter.name for parameter in found if parameter.kind is parameter.KEYWORD_ONLY}


def argument(name: str, text: str) -> Any:
    return FUNCTIONS.get(text, len) if name == "check_fn" else text


def arguments_of(kind: type) -> dict[str, Any]:
    """Return an argument for every parameter that goes with the others."""
    return {name: argument(name, f"the {name}") for name in parameters_of(kind) - LEFT_OUT.get(kind.__name__, set())}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_parameter_is_mapped_beside_all_others(kind: Any) -> None:
    for name in arguments_of(kind):
        others = {other: value for other, value in arguments_of(kind).items() if other != name}
        with DAG("dag", start_date=datetime(2026, 1, 1)):
            values = [argument(name, text) for text in ("one", "two")]
            mapped = kind.partial(task_id="mapped", retries=2, **others).expand(**{name: values})
        for value in values:
            task = mapped.unmap({name: value})
            assert {other: getattr(task, STORED_AS.get(other, other)) for other in others} == others
            assert (getattr(task, STORED_AS.get(name, name)), task.retries) == (value, 2)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_parameter_is_kept_under_its_name(kind: Any) -> None:
    given = arguments_of(kind)
    task = kind(task_id="task", **given)
    assert {name: getattr(task, STORED_AS.get(name, name)) for name in given} == given


@pytest.mark.parametrize("kind", CLASSES)
def test_unknown_names_are_refused_with_the_task(kind: Any) -> None:
    with pytest.raises(Exception, match=rf"(?s){kind.__name__} \(task_id: my_task\).*max_trys"):
        kind(task_id="my_task", **arguments_of(kind), max_trys=3)
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.partial\(\) got an unexpected keyword argument 'max_trys'"):
        kind.partial(task_id="my_task", max_trys=3)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if not issubclass(kind, TransferOperator)])
def test_parameters_of_transfers_are_refused_elsewhere(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"partial\(\) got an unexpected keyword argument 'max_tries'"):
        kind.partial(task_id="task", max_tries=3)


def test_default_args_reach_the_shared_parameters() -> None:
    with DAG("dag", start_date=datetime(2026, 1, 1), default_args={"max_tries": 9, "mictlanx_conn_id": "other"}):
        task = MictlanXPutOperator(task_id="put", bucket_id="b", key="k", data="x")
    assert (task.max_tries, task.mictlanx_conn_id) == (9, "other")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_id_path_and_tag_is_a_template_field(kind: Any) -> None:
    fields = set(kind.template_fields)
    assert fields <= parameters_of(kind)
    assert parameters_of(kind) & TEMPLATED <= fields
