"""Buckets, access points, and the URIs of both."""

from __future__ import annotations

import re

# An access point is given in place of a bucket. Its ARN may contain slashes, which do not end it in a URI.
_ACCESS_POINT = (
    r"arn:aws[a-z-]*:(?:"
    r"s3:[a-z0-9-]*:\d{12}:accesspoint[:/][^/:\s]+"
    r"|s3-outposts:[a-z0-9-]+:\d{12}:outpost[:/][^/:\s]+[:/]accesspoint[:/][^/:\s]+"
    r")"
)
_ACCESS_POINT_ARN = re.compile(_ACCESS_POINT)
_URI = re.compile(rf"s3://({_ACCESS_POINT}|(?!arn:)[^/]+)/(.+)", re.DOTALL)
# Other servers allow more names than Amazon, such as ``tenant:bucket``.
_BUCKET = re.compile(r"(?!arn:)[^\s/{}]+")


def split_s3_uri(uri: str) -> tuple[str, str] | None:
    """Return the bucket, or the access point's ARN, and the key; None if the URI has no such form."""
    match = _URI.fullmatch(uri)
    return (match[1], match[2]) if match else None


def is_bucket(name: str) -> bool:
    """Whether a name can be that of a bucket, or the alias or ARN of an access point."""
    return bool(_BUCKET.fullmatch(name) or _ACCESS_POINT_ARN.fullmatch(name))


def access_point(bucket: str) -> tuple[str, str, str] | None:
    """Return region, account and name of an access point of Amazon's S3; None for any other bucket or ARN."""
    if not _ACCESS_POINT_ARN.fullmatch(bucket):
        return None
    _, _, service, region, account, *resource = re.split("[:/]", bucket)
    return (region, account, resource[-1]) if service == "s3" and region else None
