"""
A complete virtual storage space in one process, for laptops, demos and tests: routers, placement service and peers.

``python -m airflow_provider_mictlanx.local_vss --data ./vss`` starts it. A development tool: production uses the real
routers. It needs Starlette and uvicorn, which the extra ``[local-vss]`` installs.
"""
