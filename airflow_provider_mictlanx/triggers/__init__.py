"""Triggers: the deferred half of the sensors."""
