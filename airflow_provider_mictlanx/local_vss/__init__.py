"""
A whole virtual storage space in one process, for laptops, demos and tests: routers, placement service and peers.

``python -m airflow_provider_mictlanx.local_vss --data ./vss`` starts it. A development tool: production uses the real
routers. Of this project it imports the client's models and names only, and nothing of Airflow; it brings Starlette and
uvicorn with the extra ``[local-vss]``.
"""
