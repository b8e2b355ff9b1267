"""Triggers, to which the sensors defer."""
