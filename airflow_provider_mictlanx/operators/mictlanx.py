"""
Operators of MictlanX: parameters in, a hook call, a small dictionary out. Gives out what the modules beside it define.

What they take means the same in each: ``request_timeout`` is for one request (seconds), ``max_tries`` per chunk within one try of
Airflow, ``max_backoff`` the longest pause between two of those (seconds), and ``deadline`` for the whole call (seconds; default
none). An upload of a bulk is bounded by Airflow's ``execution_timeout`` only, and goes on in the next try. In what waits for a bulk
``timeout`` is the whole wait.
"""

from airflow_provider_mictlanx.operators.bulks import MictlanXAwaitBulkOperator, MictlanXBulkPutOperator
from airflow_provider_mictlanx.operators.copying import MictlanXCopyOperator
from airflow_provider_mictlanx.operators.deleting import MictlanXDeleteBucketOperator, MictlanXDeleteOperator
from airflow_provider_mictlanx.operators.reading import (
    MictlanXBulkGetToFileOperator,
    MictlanXGetOperator,
    MictlanXGetToFileOperator,
    MictlanXListOperator,
)
from airflow_provider_mictlanx.operators.writing import MictlanXPutOperator

__all__ = [
    "MictlanXAwaitBulkOperator",
    "MictlanXBulkGetToFileOperator",
    "MictlanXBulkPutOperator",
    "MictlanXCopyOperator",
    "MictlanXDeleteBucketOperator",
    "MictlanXDeleteOperator",
    "MictlanXGetOperator",
    "MictlanXGetToFileOperator",
    "MictlanXListOperator",
    "MictlanXPutOperator",
]
