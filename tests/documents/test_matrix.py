"""Every kind of document, through every fault, from every kind of host: exact bytes, or an error and nothing.

``make test`` runs the combinations in which each pair of values occurs, ``make e2e`` all of them.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_provider_amzbiz.documents import s3_object
from airflow_provider_amzbiz.documents.errors import DocumentError
from tests.documents.s3_faults import error_response
from tests.documents.samples import zipped
from tests.documents.scripted_server import EXPIRED_URL, Response
from tests.documents.test_gunzip import member

TEXT = random.Random(1).randbytes(1500).hex().encode()
PDF = b"%PDF-1.7\n" + TEXT


PACKED = gzip.compress(TEXT)
WESTERN = b"Bestellung;Betr\xe4ge\n" * 200
ZIP = zipped(("a", TEXT), ("b", PDF))
SHEET = zipped(*{"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": TEXT}.items())
WHOLE = {"document": TEXT}
# The document, the API's announcement of it, and the objects that must be in S3; None for an error.
KINDS = {
    "plain": (TEXT, None, WHOLE),
    "gzip": (PACKED, "GZIP", WHOLE),
    "gzip, not announced": (PACKED, None, WHOLE),
    "plain, announced as gzip": (TEXT, "GZIP", WHOLE),
    "gzip of three members": (b"".join(map(gzip.compress, (TEXT[:9], TEXT[9:2000], TEXT[2000:]))), "GZIP", WHOLE),
    "gzip and zeros": (PACKED + bytes(100), "GZIP", WHOLE),
    "gzip of nothing": (gzip.compress(b""), "GZIP", {"document": b""}),
    "gzip of a zip of a PDF": (gzip.compress(zipped(("invoice", PDF))), "GZIP", {"files/invoice": PDF}),
    "zip of two": (zipped(("a", TEXT), ("b", PDF)), None, {"files/a": TEXT, "files/b": PDF}),
    "gzip with all fields": (member(TEXT, 31), "GZIP", WHOLE),
    "gzip with reserved flags": (member(TEXT, 0x20), "GZIP", None),
    "gzip with a wrong header": (member(TEXT, 10).replace(b"report", b"Report"), "GZIP", None),
    "text in another charset": (gzip.compress(WESTERN), "GZIP", {"document": WESTERN.decode("cp1252").encode()}),
    "UTF-16 with a mark": (
        WESTERN.decode("cp1252").encode("utf-16"),
        None,
        {"document": WESTERN.decode("cp1252").encode()},
    ),
    "gzip in gzip": (gzip.compress(PACKED), "GZIP", {"document": PACKED}),
    "spreadsheet": (gzip.compress(SHEET), "GZIP", {"document": SHEET}),
    "zip of gzip": (zipped(*{"a.csv.gz": PACKED}.items()), None, {"files/a.csv.gz": PACKED}),
    "zip that has lost a file": (ZIP[:-14] + b"\x01\0\x01\0" + ZIP[-10:], None, None),
    "zip and something": (ZIP + b"something", None, None),
    "cut gzip": (PACKED[:-3], "GZIP", None),
    "gzip with a wrong checksum": (PACKED[:-8] + b"1234" + PACKED[-4:], "GZIP", None),
    "gzip and something": (PACKED + b"something", "GZIP", None),
    "gzip and half a gzip": (PACKED + PACKED[: len(PACKED) // 2], "GZIP", None),
    "cut zip": (zipped(("a", TEXT), ("b", PDF))[:-30], None, None),
}
FAULTS: dict[str, Any] = {
    "none": [],
    "a cut": [{"cut": 900}],
    "cuts at the first byte and the next": [{"cut": 0}, {"cut": 1}],
    "five cuts": [{"cut": 100}] * 5,
    "an expired URL": [EXPIRED_URL],
    "a cut and an expired URL": [{"cut": 900}, EXPIRED_URL],
    "a cut and an error": [{"cut": 900}, Response(status=503, body=b"slow down")],
    "a cut and another version": [{"cut": 900, "headers": {"ETag": '"before"'}}],
}
HOSTS: dict[str, Any] = {
    "ranges": {},
    "no ranges": {"ignore_range": True},
    "chunks": {"chunked": True},
    "chunks, and pieces of unknown total": {"chunked": True, "piece": 700},
    "weak ETags": {"headers": {"ETag": 'W/"one"'}},
    "no length": {"headers": {"Content-Length": None}},
}


# Whether to run all combinations, instead of those that cover each pair of values.
ALL = bool(os.environ.get("AMZBIZ_FULL_MATRIX"))


def combinations(first, second, third):
    """Return all combinations, or a Latin square of them: the third value is chosen by the other two."""
    if ALL:
        return [*product(first, second, third)]
    third = [*third]
    return [(one, two, third[(i + j) % len(third)]) for i, one in enumerate(first) for j, two in enumerate(second)]


@pytest.fixture(scope="module")
def s3(s3_server):
    """One client for all cases: creating one takes longer than a case."""
    return s3_server.client()


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3_server.make_bucket("documents-matrix")


@pytest.fixture(autouse=True)
def _emptied(s3, bucket, stored):
    yield
    for key in stored():
        s3.delete_object(Bucket=bucket, Key=key)


def responses(fault, server):
    for each in FAULTS[fault]:
        if isinstance(each, Response):
            yield each
        else:
            headers = {**HOSTS[server].get("headers", {}), **each.get("headers", {})}
            yield Response(**{**HOSTS[server], **each, "headers": headers})


@pytest.mark.parametrize(("kind", "fault", "server"), combinations(KINDS, FAULTS, HOSTS))
def test_all_or_nothing(host, copy, stored, nothing_left, kind, fault, server):
    host.content, host.compression_algorithm, expected = KINDS[kind]
    host.responses.extend(responses(fault, server))
    host.always = Response(**HOSTS[server])

    try:
        copy(encoding="Cp1252")
    except DocumentError:
        nothing_left()
        # A valid document from a host that follows the rules must arrive.
        assert expected is None or server != "ranges"
    else:
        assert stored() == expected


def writes(request):
    """Whether a request makes an object appear."""
    query = request.url.partition("?")[2]
    return (request.method == "PUT" and not query) or (request.method == "POST" and "uploadId=" in query)


def lose(times):
    """Have S3 carry out a write whose response is lost."""

    def habit(client):
        send, left = client._endpoint.http_session.send, [times]

        def sent(request):
            response = send(request)
            if writes(request) and left[0]:
                left[0] -= 1
                raise ConnectionClosedError(endpoint_url=request.url)
            return response

        client._endpoint.http_session.send = sent

    return habit


def reject(code, status, numbers):
    """Have S3 reject the writes with these numbers, counted from 1."""

    def habit(client):
        count = itertools.count(1)

        def refuse(request, **_):
            refused = writes(request) and next(count) in numbers
            return error_response(request, status, code) if refused else None

        client.meta.events.register("before-send.s3", refuse)

    return habit


def ignore_conditions(client):
    def ignore(request, **_):
        del request.headers["If-None-Match"]

    client.meta.events.register_first("request-created.s3", ignore)


# What S3 does, and whether a good document is stored all the same.
STORES = {
    "plain": (lambda _: None, True),
    "takes no checksums": (lambda _: None, True),
    "ignores conditions": (ignore_conditions, True),
    "a conflict": (reject("ConditionalRequestConflict", 409, {1}), True),
    "an error of its own": (reject("InternalError", 500, {1}), True),
    "a response lost": (lose(1), True),
    "all responses lost": (lose(1000), False),
    "the first write refused": (reject("AccessDenied", 403, {1}), False),
}


@pytest.mark.parametrize(("kind", "store", "replace"), combinations(KINDS, STORES, (True, False)))
def test_all_or_nothing_whatever_s3_does(
    host, copy, s3_server, bucket, stored, nothing_left, monkeypatch, kind, store, replace
):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setattr(s3_object, "CONFLICT_PAUSES", (0.01,))
    habit, good = STORES[store]
    config = {"request_checksum_calculation": "when_required"} if store == "takes no checksums" else {}
    client = s3_server.client(**config)
    habit(client)
    host.content, host.compression_algorithm, expected = KINDS[kind]

    try:
        copy(s3=client, replace=replace, encoding="Cp1252")
    except DocumentError:
        assert expected is None or not good
        if replace and expected and len(expected) == 1:
            # Nobody may read it, so what was carried out stays, whole.
            assert stored() in ({}, expected)
        else:
            nothing_left()
    else:
        assert good or not replace
        assert stored() == expected


@pytest.mark.parametrize("values", [(KINDS, FAULTS, HOSTS), (KINDS, STORES, (True, False))])
def test_each_pair_of_values_is_among_the_combinations(values):
    chosen = combinations(*values)
    for a, b in itertools.combinations(range(3), 2):
        assert {(each[a], each[b]) for each in chosen} == {*product(values[a], values[b])}
