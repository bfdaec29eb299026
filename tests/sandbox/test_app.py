"""The routes, and paths that are none."""

from __future__ import annotations

import pytest

REPORTS = "/reports/2021-09-30/reports"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/reports/2021-09-30/nope"),
        ("GET", "/reports/2021-06-30/reports"),
        ("GET", f"{REPORTS}/1/2"),
        ("GET", f"{REPORTS}/"),
        ("PUT", f"{REPORTS}/1"),
        ("DELETE", REPORTS),
        ("POST", "/reports/2021-09-30/documents/x"),
    ],
)
def test_an_unknown_path_is_rejected_as_by_the_gateway(shared_api, method, path):
    response = shared_api.request(method, path, allow_redirects=False)
    assert response.status_code == 403
    assert response.json()["errors"][0]["code"] == "Unauthorized"
    assert response.headers["x-amzn-RequestId"]
