"""How exactly the API's clock is known; its own times are compared with this machine's."""

from __future__ import annotations

from datetime import timedelta

# Maximum difference between this machine's clock and the API's, before the first response shows the real one.
MAX_CLOCK_DIFFERENCE = timedelta(minutes=15)
# Precision of the API clock (timestamps have whole seconds).
CLOCK_PRECISION = timedelta(seconds=1)
