"""Airflow's names, wherever the installed Airflow and its common-compat provider have them.

The newest ``airflow.providers.common.compat.sdk`` has all of them, so it is asked first: it will also know where a
later Airflow moves them. But the constraints that Airflow 2.11.0 to 3.3.0 were released with pin older ones, which
lack the module or some of its names, and managed services install no others.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import AirflowException as AirflowException
    from airflow.providers.common.compat.sdk import AirflowFailException as AirflowFailException
    from airflow.providers.common.compat.sdk import AirflowNotFoundException as AirflowNotFoundException
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout as AirflowSensorTimeout
    from airflow.providers.common.compat.sdk import AirflowSkipException as AirflowSkipException
    from airflow.providers.common.compat.sdk import Asset as Asset
    from airflow.providers.common.compat.sdk import AssetAlias as AssetAlias
    from airflow.providers.common.compat.sdk import BaseHook as BaseHook
    from airflow.providers.common.compat.sdk import BaseOperator as BaseOperator
    from airflow.providers.common.compat.sdk import BaseOperatorLink as BaseOperatorLink
    from airflow.providers.common.compat.sdk import BaseSensorOperator as BaseSensorOperator
    from airflow.providers.common.compat.sdk import Connection as Connection
    from airflow.providers.common.compat.sdk import Context as Context
    from airflow.providers.common.compat.sdk import ExceptionRetryPolicy as ExceptionRetryPolicy
    from airflow.providers.common.compat.sdk import NoOpCollector as NoOpCollector
    from airflow.providers.common.compat.sdk import PokeReturnValue as PokeReturnValue
    from airflow.providers.common.compat.sdk import RetryRule as RetryRule
    from airflow.providers.common.compat.sdk import Stats as Stats
    from airflow.providers.common.compat.sdk import XCom as XCom
    from airflow.providers.common.compat.sdk import XComArg as XComArg
    from airflow.providers.common.compat.sdk import conf as conf
    from airflow.providers.common.compat.sdk import mask_secret as mask_secret
    from airflow.providers.common.compat.sdk import task_group as task_group
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger

_EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")
# The modules that have or had a name, the newest first; after a colon, the name that it had there.
_PLACES: dict[str, tuple[str, ...]] = {
    "AirflowException": _EXCEPTIONS,
    "AirflowFailException": _EXCEPTIONS,
    "AirflowNotFoundException": _EXCEPTIONS,
    "AirflowSensorTimeout": _EXCEPTIONS,
    "AirflowSkipException": _EXCEPTIONS,
    "Asset": ("airflow.sdk", "airflow.datasets:Dataset"),
    "AssetAlias": ("airflow.sdk", "airflow.datasets:DatasetAlias"),
    # Airflow 2 has no asset watchers, for which alone the class is.
    "BaseEventTrigger": ("airflow.triggers.base", "airflow.triggers.base:BaseTrigger"),
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),
    "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
    "Connection": ("airflow.sdk", "airflow.models.connection"),
    "Context": ("airflow.sdk", "airflow.utils.context"),
    # Airflow 3.3 and newer.
    "ExceptionRetryPolicy": ("airflow.sdk.definitions.retry_policy",),
    "NoOpCollector": ("airflow.sdk.lineage", "airflow.lineage.hook"),
    "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),
    # Airflow 3.3 and newer.
    "RetryRule": ("airflow.sdk.definitions.retry_policy",),
    "Stats": ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats"),
    "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models.xcom"),
    "XComArg": ("airflow.sdk", "airflow.models.xcom_arg"),
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),
    "mask_secret": (
        "airflow.sdk.log",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    ),
    "task_group": ("airflow.sdk", "airflow.decorators"),
}

__all__ = tuple(_PLACES)


def __getattr__(name: str) -> Any:
    """Return one of Airflow's names.

    :raises AttributeError: this module does not list the name.
    :raises ImportError: the installed Airflow does not have it.
    """
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return find(name, _PLACES[name])


def find(name: str, places: Iterable[str]) -> Any:
    """Return a name from the common-compat provider, or else from the first of the places that has it.

    :raises ImportError: none has it.
    """
    failure: Exception | None = None
    for place in ("airflow.providers.common.compat.sdk", *places):
        module, _, old_name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), old_name or name)
        except (ImportError, AttributeError) as error:
            failure = error
    raise ImportError(f"The installed Airflow has no {name}") from failure
