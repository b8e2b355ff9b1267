"""Operators take what the hook's calls take, under the same names and with the same defaults, and hand all of it on."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators import mictlanx as operators
from airflow_provider_mictlanx.operators.airflow_arguments import AirflowArguments
from tests.support.public_names import OPERATORS

CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "MictlanXPutOperator": [("put", {"data": "x"}), ("put_file", {"file_path": "x"})],
    "MictlanXGetOperator": [("get_text", {})],
    "MictlanXGetToFileOperator": [("get_to_file", {})],
    "MictlanXGetToFolderOperator": [("get_to_folder", {"bucket_id": "x"}), ("get_to_folder", {"bulk_id": "x"})],
    "MictlanXListOperator": [("list_keys", {})],
    "MictlanXCopyOperator": [
        ("copy", {"key": "x", "dest_key": "y"}),
        ("copy_prefix", {"prefix": "x", "dest_prefix": "y"}),
    ],
    "MictlanXSyncOperator": [("synchronize", {})],
    "MictlanXDeleteOperator": [
        ("delete", {"key": "x"}),
        ("delete_keys", {"keys": "x"}),
        ("delete_matching", {"prefix": "x", "older_than": "1d", "keep_last": 3, "dry_run": True}),
        ("delete_matching", {"glob": "x"}),
    ],
    "MictlanXSweepOperator": [("sweep", {})],
    "MictlanXDeleteBulkOperator": [("delete_bulk", {})],
    "MictlanXDeleteBucketOperator": [("delete_bucket", {})],
    "MictlanXBulkPutOperator": [("put_bulk", {"source": "x"}), ("put_bulk", {"balls": "x"})],
    "MictlanXAwaitBulkOperator": [("await_bulk", {})],
}
"""The calls that an operator makes, each with what makes it do so."""

CALLED_OTHERWISE = {"file_path": "path", "request_timeout": "timeout"}
OF_THE_TASK = {"owner", "will_retry"}
"""What the operator takes from its task instance."""

OTHER_DEFAULTS = {
    ("MictlanXGetOperator", "max_size"),
    ("MictlanXListOperator", "max_keys"),
    ("MictlanXDeleteOperator", "prefix"),  # None tells that nobody said it
    ("MictlanXDeleteOperator", "glob"),
    ("MictlanXBulkPutOperator", "shards"),
    ("MictlanXAwaitBulkOperator", "poke_interval"),  # Airflow's
}
NUMBERS = {"shard": 3, "shards": 4, "poke_interval": 5.0, "timeout": 6.0, "deferrable": False}
"""Parameters that the operator itself looks at."""


class Called(Exception):
    """Ends the work when the hook is called."""


class Hook:
    """Takes down what it is called with."""

    def __init__(self, method: str) -> None:
        self.signature = inspect.signature(getattr(MictlanXHook, method))
        setattr(self, method, self.call)

    def call(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = self.signature.bind(self, *args, **kwargs).arguments
        raise Called


def parameters(call: Any) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name != "self"
    }


def own_parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters that an operator's class and its bases in the package take, without Airflow's."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("airflow_provider_mictlanx.")]
    ours = [base for base in ours if "__init__" in vars(base)]
    return {name: parameter for base in ours for name, parameter in parameters(base.__init__).items()}


def name_in_hook(parameter: str, of_hook: dict[str, inspect.Parameter]) -> str:
    return parameter if parameter in of_hook else CALLED_OTHERWISE.get(parameter, parameter)


def test_every_operator_is_compared() -> None:
    assert set(CALLS) == {kind.__name__ for kind in OPERATORS}


CASES = [(name, method, choice) for name, calls in CALLS.items() for method, choice in calls]


@pytest.mark.parametrize(("name", "method", "choice"), CASES)
def test_what_the_hook_takes_is_taken_and_handed_on(name: str, method: str, choice: dict[str, Any]) -> None:
    kind = getattr(operators, name)
    of_hook = parameters(getattr(MictlanXHook, method))
    own = {name_in_hook(parameter, of_hook) for parameter in own_parameters(kind)}
    assert set(of_hook) - OF_THE_TASK - own == set()

    either = {parameter for _, other in CALLS[name] for parameter in other} - set(choice)
    given = {parameter: NUMBERS.get(parameter, f"the {parameter}") for parameter in own_parameters(kind)}
    given = {parameter: value for parameter, value in given.items() if parameter not in either} | choice
    operator = kind(task_id="task", **given)
    operator.__dict__["hook"] = hook = Hook(method)
    with pytest.raises(Called):
        operator._execute({})
    handed_on = {name_in_hook(parameter, of_hook): value for parameter, value in given.items()}
    wanted = {parameter: handed_on[parameter] for parameter in of_hook if parameter in handed_on}
    assert {parameter: hook.arguments[parameter] for parameter in wanted} == wanted


@pytest.mark.parametrize(("name", "method", "choice"), CASES)
def test_defaults_are_those_of_the_hook(name: str, method: str, choice: dict[str, Any]) -> None:
    of_hook = parameters(getattr(MictlanXHook, method))
    own = {name_in_hook(its, of_hook): value for its, value in own_parameters(getattr(operators, name)).items()}
    other = {
        parameter: (own[parameter].default, value.default)
        for parameter, value in of_hook.items()
        if parameter in own and (name, parameter) not in OTHER_DEFAULTS and value.default is not value.empty
    }
    assert {parameter for parameter, (mine, hooks) in other.items() if mine != hooks} == set()


OF_ONE_AIRFLOW = {"task_concurrency", "retry_policy", "render_template_as_native_obj"}
"""Arguments that only one of the supported versions of Airflow takes."""


def test_the_type_of_airflows_arguments_has_them_all() -> None:
    of_airflow = set(parameters(BaseOperator.__init__))
    assert of_airflow - set(AirflowArguments.__annotations__) == set()
    assert set(AirflowArguments.__annotations__) - of_airflow <= OF_ONE_AIRFLOW


@pytest.mark.parametrize(
    ("options", "base", "above"),
    [
        (operators.MictlanXArguments, operators.MictlanXOperator, AirflowArguments),
        (operators.TransferArguments, operators.TransferOperator, operators.MictlanXArguments),
    ],
)
def test_types_of_the_shared_parameters_are_those_of_the_base(options: Any, base: type, above: Any) -> None:
    typed = {name: kind for name, kind in get_type_hints(options).items() if name not in above.__annotations__}
    taken = get_type_hints(inspect.unwrap(base.__init__))
    assert typed == {name: taken[name] for name in parameters(base.__init__)}
