"""
A complete virtual storage space in one process: routers, placement service and peers. For laptops, demos and tests.

Start it with ``python -m airflow_provider_mictlanx.local_vss --data ./vss``. Production uses the real routers. The
extra ``[local-vss]`` installs Starlette and uvicorn, which it needs.
"""
