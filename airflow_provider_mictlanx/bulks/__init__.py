"""Durable bulks: bulks that outlive the process that started them. Knows the client, and nothing of Airflow."""
