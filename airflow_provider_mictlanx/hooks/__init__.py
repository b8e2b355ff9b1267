"""Hooks: MictlanX through an Airflow connection."""
