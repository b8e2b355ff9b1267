"""Apache Airflow provider for MictlanX, a decentralized object store reached over HTTP through routers."""

__version__ = "0.1.0"
