"""The MictlanX client: HTTP, chunks, files. Imports nothing of Airflow."""
