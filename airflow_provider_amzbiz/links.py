"""Links that Airflow shows with a task: to what it wrote, in the AWS console, and to the API's reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_amzbiz.compat import BaseOperatorLink, XCom
from airflow_provider_amzbiz.documents.s3_location import access_point

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context

# By AWS partition. The others have no public console.
_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
_ENDPOINTS = (".amazonaws.com", ".amazonaws.com.cn")
# The name that Airflow 3 itself uses.
_LINK_OF_AIRFLOW_2 = "_link_S3ConsoleLink"


class S3ConsoleLink(BaseOperatorLink):
    """The object or the folder in the S3 console; none for a server that only speaks S3."""

    name = "S3 console"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL, or an empty string if :meth:`show` was not called."""
        if hasattr(operator, "console_url"):
            # Airflow 3 calls this in the process that has run the task, and stores the result.
            return operator.console_url or ""
        return XCom.get_value(ti_key=ti_key, key=_LINK_OF_AIRFLOW_2) or ""

    @classmethod
    def show(cls, operator: Any, context: Context, s3: Any, bucket: str, key: str) -> None:
        """Keep the link for Airflow.

        :param s3: boto3 client, which knows the bucket's region and partition.
        :param key: of the object, or of a folder, which ends in a slash or is empty.
        """
        operator.console_url = console_url(s3, bucket, key)
        ti: Any = context.get("ti")
        if operator.console_url and operator.do_xcom_push and ti and not hasattr(cls, "xcom_key"):
            # Airflow 2 calls get_link in the webserver, which knows only the XComs.
            ti.xcom_push(key=_LINK_OF_AIRFLOW_2, value=operator.console_url)


class ReportStatusesLink(BaseOperatorLink):
    """Amazon's own reference of the API, which explains the statuses."""

    name = "Report statuses"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page's URL."""
        return "https://developer-docs.amazon.com/amazon-business/docs/document-api-v1-reference-1"


def console_url(s3: Any, bucket: str, key: str) -> str | None:
    """Return the AWS console's page of an object or a folder, None if there is none."""
    console = _CONSOLES.get(s3.meta.partition)
    host = urlsplit(s3.meta.endpoint_url).hostname or ""
    if console is None or not host.endswith(_ENDPOINTS):
        return None
    region = {} if s3.meta.region_name in (None, "aws-global") else {"region": s3.meta.region_name}
    page = f"buckets/{bucket}" if key.endswith("/") or not key else f"object/{bucket}"
    if bucket.startswith("arn:"):
        found = access_point(bucket)
        if found is None:
            # The console shows no objects of access points on Outposts or of several regions.
            return None
        page, region = f"ap/{found[1]}/{found[2]}", {"region": found[0]}
    query = urlencode({**region, "prefix": key}, quote_via=quote)
    return f"https://{console}/s3/{page}?{query}"
