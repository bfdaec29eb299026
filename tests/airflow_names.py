"""The names of Airflow that tests use, also where the common-compat provider is too old to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_amzbiz import compat

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag as DagBag
    from airflow.providers.common.compat.sdk import DAG as DAG
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout as AirflowTaskTimeout
    from airflow.providers.common.compat.sdk import TaskDeferred as TaskDeferred
    from airflow.providers.common.compat.sdk import redact as redact
    from airflow.providers.common.compat.sdk import task as task

    from airflow_provider_amzbiz.compat import AirflowException as AirflowException
    from airflow_provider_amzbiz.compat import AirflowFailException as AirflowFailException
    from airflow_provider_amzbiz.compat import AirflowSkipException as AirflowSkipException
    from airflow_provider_amzbiz.compat import Asset as Asset
    from airflow_provider_amzbiz.compat import BaseOperator as BaseOperator
    from airflow_provider_amzbiz.compat import Connection as Connection
    from airflow_provider_amzbiz.compat import mask_secret as mask_secret
    from airflow_provider_amzbiz.compat import task_group as task_group

# Those that the package itself does not use.
_PLACES = {
    "AirflowTaskTimeout": ("airflow.exceptions",),
    "DAG": ("airflow.sdk", "airflow.models.dag"),
    # The first one is there since Airflow 3.2.
    "DagBag": ("airflow.dag_processing.dagbag", "airflow.models.dagbag"),
    "TaskDeferred": ("airflow.exceptions",),
    "redact": (
        "airflow.sdk._shared.secrets_masker",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    ),
    "task": ("airflow.sdk", "airflow.decorators"),
}


def __getattr__(name):
    return compat.find(name, _PLACES[name]) if name in _PLACES else getattr(compat, name)
