"""The shell: ``airflow mictlanx …`` and ``mictlanx …``, with the same commands."""
