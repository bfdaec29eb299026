"""What the example DAGs add to Airflow's parsing time, compared with the same number of empty DAGs.

``python -m bench.parsing [RUNS]``. Each parse is a process of its own, both kinds in turn; the lines are medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from airflow_provider_amzbiz.demo.airflow_server import airflow_settings

EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"
GOAL_MS = 150

EMPTY = """
from datetime import datetime, timezone

from airflow.sdk import DAG

with DAG("empty_{number}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    pass
"""

# The clocks start where the DAG processor starts with a file: Airflow is loaded, and frozen to keep the garbage
# collector away from it (``DagFileProcessorManager.before_run``); the file is not loaded.
PARSE = """
import gc, sys, time
from airflow.dag_processing.dagbag import DagBag
gc.freeze()
wall, cpu = time.perf_counter(), time.process_time()
bag = DagBag(sys.argv[1])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
if bag.import_errors:
    sys.exit(str(bag.import_errors))
print(len(bag.dags), wall * 1000, cpu * 1000)
"""


def main() -> None:
    """Parse both folders in turn and print the medians in milliseconds."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        home, empty = Path(folder, "home"), Path(folder, "empty")
        home.mkdir()
        empty.mkdir()
        # The first parse also writes configuration and bytecode, so it is not counted.
        count = int(_parse(EXAMPLES, home)[0])
        for number in range(count):
            (empty / f"empty_{number}.py").write_text(EMPTY.format(number=number))
        taken: dict[Path, list[tuple[float, ...]]] = {path: [] for path in (empty, EXAMPLES)}
        for _ in range(runs):
            for path, results in taken.items():
                results.append(_parse(path, home))
    if any(dags != count for results in taken.values() for dags, _, _ in results):
        raise SystemExit(f"not every parse gave {count} DAGs: {taken}")
    print(f"parsing, median of {runs} processes     wall ms   CPU ms")
    medians = []
    for label, path in (("empty DAGs", empty), ("example DAGs", EXAMPLES)):
        wall, cpu = (statistics.median(result[clock] for result in taken[path]) for clock in (1, 2))
        medians.append((wall, cpu))
        print(f"{count:3} {label:30} {wall:9.0f}{cpu:9.0f}")
    added = [ours - base for base, ours in zip(*medians, strict=True)]
    print(f"added by the examples (goal < {GOAL_MS}) {added[0]:9.0f}{added[1]:9.0f}")


def _parse(folder: Path, home: Path) -> tuple[float, ...]:
    """Return the number of DAGs, and the wall and CPU milliseconds that parsing took."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder)],
        env={**kept, **airflow_settings(home, folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"parsing {folder} failed: {done.stderr[-2000:]}")
    return tuple(float(value) for value in done.stdout.splitlines()[-1].split())


if __name__ == "__main__":
    main()
