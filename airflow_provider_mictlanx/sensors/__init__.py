"""Sensors, which wait on a worker, by rescheduling, or in the triggerer."""
