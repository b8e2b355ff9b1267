"""Apache Airflow provider for MictlanX, a decentralized object store reached over HTTP through routers."""

from importlib.metadata import version

__version__ = version("airflow-provider-mictlanx")
