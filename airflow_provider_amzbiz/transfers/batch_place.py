"""Where the batch of a task goes, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.transfers.keys import (
    check_bucket,
    check_key,
    check_manifest_key,
    check_placeholders,
    render_key,
)

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.plan import Place
    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator


class KeyRules:
    """The rules of keys; see :class:`.batch.plan.Keys`."""

    render = staticmethod(render_key)

    @staticmethod
    def check(parameter: str, key: str, known: Iterable[str]) -> None:
        check_key(parameter, key)
        check_placeholders(key, known)

    @staticmethod
    def check_values(where: str, key: str, values: Mapping[str, str]) -> None:
        try:
            render_key(key, values)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from None


def place_of(operator: ReportsToS3Operator, context: Context) -> Place:
    """Return where the batch of a task goes.

    :raises InvalidInputError: a bucket or a key is not allowed.
    :raises InvalidParameterError: a key is no string.
    """
    from airflow_provider_amzbiz.batch.plan import Place, check_string

    key, manifest_key = operator.s3_key, operator.manifest_key
    check_string("s3_key", key)
    if manifest_key is None:
        manifest_key = default_manifest_key(key or "", context)
    place = Place(operator.s3_bucket or "", key or "", manifest_key, operator.audit_key)
    check_bucket("s3_bucket", place.bucket)
    check_manifest_key(place.manifest_key)
    if place.audit_key is not None:
        from airflow_provider_amzbiz.batch.table import table_format

        check_key("audit_key", place.audit_key)
        table_format("audit_key", place.audit_key)
    return place


def default_manifest_key(key: str, context: Context) -> str:
    """Return the manifest's key where none is given: in the folder that the documents' key begins with."""
    ti: Any = context["ti"]
    mapped = f"-{ti.map_index}" if ti.map_index >= 0 else ""
    iteration = f"-{loop}" if (loop := _loop_of(ti)) else ""
    fixed = key.split("{")[0]
    folder = fixed[: fixed.rfind("/") + 1]
    return f"{folder}_manifests/{ti.dag_id}/{ti.run_id}/{ti.task_id}{mapped}{iteration}.json"


def owner_of(context: Context) -> dict[str, Any]:
    """Return whose a batch is."""
    ti: Any = context["ti"]
    owner = {
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
    }
    # Left out of the records of all other tasks, which older versions of the package compare.
    return {**owner, "loop": loop} if (loop := _loop_of(ti)) else owner


def _loop_of(ti: Any) -> str:
    """Return which iteration of a loop a task is in, since Airflow 3.4; an empty string outside of loops."""
    region_id = getattr(ti, "region_id", None)
    return "" if region_id is None else f"{region_id}-{ti.region_index}"
