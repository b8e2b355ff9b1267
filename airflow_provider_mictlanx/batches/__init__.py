"""Many balls in one call: copied, deleted, read into a folder. Knows the client and ``bulks``, and nothing of Airflow."""
