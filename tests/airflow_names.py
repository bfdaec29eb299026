"""The names of Airflow that tests use, also where the common-compat provider is too old to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_amzbiz.compat import find

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG as DAG
    from airflow.providers.common.compat.sdk import AirflowException as AirflowException
    from airflow.providers.common.compat.sdk import AirflowFailException as AirflowFailException
    from airflow.providers.common.compat.sdk import AirflowSkipException as AirflowSkipException
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout as AirflowTaskTimeout
    from airflow.providers.common.compat.sdk import Asset as Asset
    from airflow.providers.common.compat.sdk import BaseOperator as BaseOperator
    from airflow.providers.common.compat.sdk import Connection as Connection
    from airflow.providers.common.compat.sdk import TaskDeferred as TaskDeferred
    from airflow.providers.common.compat.sdk import mask_secret as mask_secret
    from airflow.providers.common.compat.sdk import redact as redact
    from airflow.providers.common.compat.sdk import task as task
    from airflow.providers.common.compat.sdk import task_group as task_group

_PLACES = {
    "AirflowException": ("airflow.exceptions",),
    "AirflowFailException": ("airflow.exceptions",),
    "AirflowSkipException": ("airflow.exceptions",),
    "AirflowTaskTimeout": ("airflow.exceptions",),
    "Asset": ("airflow.sdk", "airflow.datasets:Dataset"),
    "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
    "Connection": ("airflow.sdk", "airflow.models.connection"),
    "DAG": ("airflow.sdk", "airflow.models.dag"),
    "TaskDeferred": ("airflow.exceptions",),
    "mask_secret": ("airflow.sdk.execution_time.secrets_masker", "airflow.utils.log.secrets_masker"),
    "redact": (
        "airflow.sdk._shared.secrets_masker",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    ),
    "task": ("airflow.sdk", "airflow.decorators"),
    "task_group": ("airflow.sdk", "airflow.decorators"),
}


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(name)
    return find(name, _PLACES[name])
