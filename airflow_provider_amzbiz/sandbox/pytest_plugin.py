"""The fixture ``amazon_business_sandbox``, for users' tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.server import Sandbox

_MARKER = "amazon_business_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that passes settings to the fixture."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(**settings): settings of the fixture {_MARKER}, such as throttle=False"
    )


@pytest.fixture
def amazon_business_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running :class:`.Sandbox`, which is also the connection ``amazon_business_default``.

    Reports are DONE at once, unless the marker sets otherwise: it takes the parameters of :class:`.Sandbox`, as in
    ``@pytest.mark.amazon_business_sandbox(processing_seconds=60)``.
    """
    # Imported here, so that a test run without the fixture loads no web server.
    from airflow_provider_amzbiz.sandbox import Sandbox

    marker = request.node.get_closest_marker(_MARKER)
    settings = {"queue_seconds": 0, "processing_seconds": 0, **(marker.kwargs if marker else {})}
    with Sandbox(**settings) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(sandbox.connection))
        yield sandbox
