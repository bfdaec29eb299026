"""What all requests to S3 have in common: which parameters they repeat, and how botocore sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The parameters of an object that S3 requires again with each request for it or its parts.
_PER_REQUEST = (
    "ExpectedBucketOwner",
    "RequestPayer",
    "SSECustomerAlgorithm",
    "SSECustomerKey",
    "SSECustomerKeyMD5",
)
# Those of them that S3 accepts when uploads are listed or aborted, and when objects are deleted.
_WITHOUT_CONTENT = ("ExpectedBucketOwner", "RequestPayer")
# Bytes that are sent with the headers, although S3 may refuse them: as many as fit a connection's buffers.
_SENT_AT_ONCE = 64 * 1024
_CHECKSUM_HEADER = "x-amz-checksum-crc32"


def per_request_args(extra_args: Mapping[str, Any], *, content: bool = True) -> dict[str, Any]:
    """Return the parameters that go with each request for an object.

    :param content: whether the request reads or writes the object's bytes.
    """
    return {
        name: extra_args[name] for name in (_PER_REQUEST if content else _WITHOUT_CONTENT) if name in extra_args
    }


def keeps_checksums(s3: S3Client) -> bool:
    """Whether requests may have checksum headers: not if botocore is configured with ``when_required``."""
    return getattr(s3.meta.config, "request_checksum_calculation", None) != "when_required"


def adapt_requests(s3: S3Client) -> None:
    """Have botocore send a small body at once, and accept a checksum that we have computed.

    botocore would sign the SHA-256 of the body, even over TLS, which costs more than the rest of the upload. And
    it would wait for ``100 Continue`` before the body: forever, and busily, if the connection breaks meanwhile.
    A large body must wait, because S3 may refuse it, or redirect it to another region, and hang up.
    """
    # After botocore's own handler of this event, which sets what this one removes.
    s3.meta.events.register_last("before-call.s3", _adapt_request, unique_id=__name__)


def _adapt_request(params: dict[str, Any], **_: Any) -> None:
    from botocore.utils import determine_content_length

    if (determine_content_length(params.get("body")) or 0) <= _SENT_AT_ONCE:
        params["headers"].pop("Expect", None)
    if _CHECKSUM_HEADER in params["headers"]:
        algorithm = {"algorithm": "crc32", "in": "header", "name": _CHECKSUM_HEADER}
        params["context"].setdefault("checksum", {})["request_algorithm"] = algorithm
