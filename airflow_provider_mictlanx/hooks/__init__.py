"""Hooks: an Airflow connection becomes a client. Imports Airflow and ``client``, nothing of the rooms above."""
