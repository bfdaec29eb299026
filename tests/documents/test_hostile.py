"""Hostile documents: valid ones that are damaged, joined or disguised at random."""

from __future__ import annotations

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.errors import DocumentError
from tests.documents.samples import zipped
from tests.documents.transferring import transfer
from tests.fuzzing import bounded

TEXT = b"".join(b"%d\tpaper, A4\t19.99\n" % number for number in range(300))
PDF = b"%PDF-1.7\n" + random.Random(1).randbytes(3000)
OTHER = b"a,b\n1,2\n"


GOOD = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "members": gzip.compress(TEXT[:1000], mtime=0) + gzip.compress(TEXT[1000:], mtime=0),
    "zip": zipped(("invoice", PDF)),
    "two files": zipped(("invoice", PDF), ("table", OTHER)),
    "gzip of zip": gzip.compress(zipped(("invoice", PDF), ("table", OTHER)), mtime=0),
}
# The possible results: the contents, and whole files that no longer look compressed.
CONTENTS = {TEXT, PDF, OTHER}
DAMAGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(1, 4000), st.none()),
        st.tuples(st.just("cut in front"), st.integers(1, 200), st.none()),
        st.tuples(st.just("append"), st.binary(min_size=1, max_size=50), st.none()),
        st.tuples(st.just("prepend"), st.binary(min_size=1, max_size=50), st.none()),
        st.tuples(st.just("lose"), st.integers(0, 10**6), st.integers(1, 50)),
        st.tuples(st.just("repeat"), st.integers(0, 10**6), st.integers(1, 50)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data, damages):
    for kind, value, more in damages:
        at = value % max(len(data), 1) if isinstance(value, int) else 0
        data = {
            "flip": lambda d=data, a=at, m=more: d[:a] + bytes([d[a] ^ m]) + d[a + 1 :] if d else d,
            "cut": lambda d=data, v=value: d[: max(0, len(d) - v)],
            "cut in front": lambda d=data, v=value: d[v:],
            "append": lambda d=data, v=value: d + v,
            "prepend": lambda d=data, v=value: v + d,
            "lose": lambda d=data, a=at, m=more: d[:a] + d[a + m :],
            "repeat": lambda d=data, a=at, m=more: d[: a + m] + d[a:],
        }[kind]()
    return data


@pytest.fixture(scope="module")
def client(s3_server):
    s3_server.make_bucket("hostile")
    return s3_server.client()


def stored(client):
    listed = client.list_objects_v2(Bucket="hostile").get("Contents", [])
    return {each["Key"]: client.get_object(Bucket="hostile", Key=each["Key"])["Body"].read() for each in listed}


def empty(client):
    for key in stored(client):
        client.delete_object(Bucket="hostile", Key=key)


@bounded(150)
@given(kind=st.sampled_from(sorted(GOOD)), announced=st.sampled_from(["GZIP", None]), damages=DAMAGES)
def test_what_is_damaged_is_an_error_or_harmless(client, host, kind, announced, damages):
    empty(client)
    host.content, host.compression_algorithm = damaged(GOOD[kind], damages), announced
    try:
        results = transfer(host.fetch, s3=client, bucket="hostile")
    except DocumentError:
        assert stored(client) == {}
    else:
        there = stored(client)
        assert sum(each.bytes for each in results) == sum(map(len, there.values()))
        # A document that does not look compressed is kept as it came.
        plain = not host.content.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"))
        for content in there.values():
            assert content in CONTENTS or (content == host.content and plain), kind
    assert client.list_multipart_uploads(Bucket="hostile").get("Uploads", []) == []
