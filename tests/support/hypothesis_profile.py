"""How Hypothesis runs here: on busy machines too, where the time of an example says nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("client", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.load_profile("client")
