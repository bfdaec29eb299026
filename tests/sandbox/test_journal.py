"""The calls that the sandbox records."""

from __future__ import annotations


def test_calls_are_recorded(api):
    api.get("1")
    operations = [(call.operation, call.method, call.path, call.status) for call in api.sandbox.calls]
    assert operations == [
        ("token", "POST", "/auth/o2/token", 200),
        ("getReport", "GET", "/reports/2021-09-30/reports/1", 404),
    ]
    assert api.sandbox.calls[1].headers["x-amz-access-token"] == api.access_token
    assert api.sandbox.count("getReport") == api.sandbox.count("getReport", status=404) == 1
    assert api.sandbox.count("getReport", status=200) == 0
    api.sandbox.calls.clear()
    assert len(api.sandbox.calls) == 2
