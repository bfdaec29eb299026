"""statsd-exporter on this machine, or where it is not installed, a stand-in that reads the same mapping.

Debian has no package of it. The stand-in knows what our mapping uses: globs, labels, counters and histograms.
"""

from __future__ import annotations

import re
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.server import Server


def statsd_exporter() -> str | None:
    """Return the path of the real one; None where it is not installed."""
    return shutil.which("statsd_exporter") or shutil.which("prometheus-statsd-exporter")


class StatsdExporter(Server):
    """Receives StatsD's packets on a port of 127.0.0.1, and serves Prometheus' series on another.

    :param mapping: the file that names the series.
    :param statsd_port: where the packets arrive.
    :ivar port: where Prometheus reads ``/metrics``.
    """

    def __init__(self, mapping: Path, statsd_port: int) -> None:
        self._mapping = mapping
        self._statsd_port = statsd_port
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._servers: list[Any] = []

    def _boot(self) -> None:
        if program := statsd_exporter():
            self._process = subprocess.Popen(
                [
                    program,
                    f"--statsd.mapping-config={self._mapping}",
                    f"--statsd.listen-udp=127.0.0.1:{self._statsd_port}",
                    "--statsd.listen-tcp=",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stderr=subprocess.DEVNULL,
            )
            return
        translation = Translation(yaml.safe_load(self._mapping.read_text())["mappings"])

        class Packets(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                translation.packet(self.request[0].decode())

        packets = socketserver.UDPServer(("127.0.0.1", self._statsd_port), Packets)
        self._servers.append(packets)
        threading.Thread(target=packets.serve_forever, name="statsd", daemon=True).start()
        server, _ = start_http_server(self.port, "127.0.0.1", translation.registry)
        self._servers.append(server)

    def stop(self) -> None:
        """End it; its series are lost."""
        if self._process:
            self._process.terminate()
            self._process.wait()
        for server in self._servers:
            server.shutdown()
            server.server_close()


class Translation:
    """The series that a mapping makes of StatsD's packets.

    :param mappings: the entries of the mapping file.
    """

    def __init__(self, mappings: list[dict[str, Any]]) -> None:
        self.registry = CollectorRegistry()
        self._rules = [(_glob(each["match"]), each.get("labels", {}), self._series(each)) for each in mappings]

    def packet(self, text: str) -> None:
        """Count what a packet has; metrics that match nothing are left out."""
        for line in text.splitlines():
            name, _, rest = line.partition(":")
            value, kind = rest.split("|")[:2]
            for glob, labels, series in self._rules:
                found = glob.fullmatch(name)
                if not found:
                    continue
                values = {label: found[int(group[1:])] for label, group in labels.items()}
                child = series.labels(**values) if values else series
                if kind == "c" and isinstance(child, Counter):
                    child.inc(float(value))
                elif kind == "ms" and isinstance(child, Histogram):
                    # StatsD's timers have milliseconds, Prometheus' have seconds.
                    child.observe(float(value) / 1000)

    def _series(self, mapping: dict[str, Any]) -> Counter | Histogram:
        arguments = (mapping["name"], mapping["help"], list(mapping.get("labels", {})))
        if mapping["match_metric_type"] == "counter":
            return Counter(*arguments, registry=self.registry)
        buckets = mapping["histogram_options"]["buckets"]
        return Histogram(*arguments, buckets=buckets, registry=self.registry)


def _glob(match: str) -> re.Pattern[str]:
    return re.compile(re.escape(match).replace(r"\*", r"([^.]+)"))
