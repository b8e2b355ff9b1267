"""The page *MictlanX* in Airflow's UI: its routes, and what they look up. Only the API server imports it."""
