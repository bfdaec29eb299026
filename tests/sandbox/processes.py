"""The sandbox, or Python with it, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = "airflow_provider_amzbiz.sandbox"
ROOT = Path(sys.modules["airflow_provider_amzbiz"].__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments, code=None):
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", MODULE]
    return subprocess.run(
        [*command, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=20, check=False
    )
