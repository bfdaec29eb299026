"""How many inputs the property tests try: AMZBIZ_FUZZ times the usual, and then other ones each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("AMZBIZ_FUZZ", "1"))


def bounded(examples=100, **more):
    """Return settings for so many inputs."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
