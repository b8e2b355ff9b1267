"""MictlanX as a filesystem for fsspec, Airflow's ``ObjectStoragePath`` and everything that reads files through them."""
