"""Remote task logs: Airflow's logs stored in MictlanX."""
