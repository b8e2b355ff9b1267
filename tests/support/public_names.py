"""What users of Airflow import from the package, found by looking: tests that go through all of it can't forget a new one."""

from __future__ import annotations

import inspect
from typing import Any

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators import mictlanx as operators
from airflow_provider_mictlanx.sensors import mictlanx as sensors
from airflow_provider_mictlanx.triggers import mictlanx as triggers


def classes(module: Any, base: type) -> list[type]:
    """Return the public classes of a kind that a module defines, without the bases that others derive from."""
    found = [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, base) and thing.__module__ == module.__name__
    ]
    return [thing for thing in found if not any(issubclass(other, thing) for other in found if other is not thing)]


OPERATORS = classes(operators, operators.MictlanXOperator)
SENSORS = classes(sensors, sensors.MictlanXSensor)
TRIGGERS = classes(triggers, triggers.PollingTrigger)


def hook_methods() -> set[str]:
    """Return the names of the hook's public methods, async ones included, without those of Airflow's base class."""
    ours = [part for part in MictlanXHook.__mro__ if part.__module__.startswith("airflow_provider_mictlanx.")]
    return {
        name
        for part in ours
        for name, thing in vars(part).items()
        if not name.startswith("_") and inspect.isfunction(thing)
    }


def async_twins() -> set[str]:
    """Return the names of the methods that are the async twin of another: ``aput`` of ``put``."""
    methods = hook_methods()
    return {name for name in methods if name.startswith("a") and name[1:] in methods}
