"""Plugins: what Airflow loads by the entry point ``airflow.plugins``."""
