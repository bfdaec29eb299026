"""``python -m airflow_provider_amzbiz.demo``: run the examples, or serve them in Airflow's UI until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from airflow_provider_amzbiz.demo.clock import Clock
from airflow_provider_amzbiz.demo.requirements import missing_requirements

_EPILOG = """\
Everything listens on 127.0.0.1 and lives in a temporary folder. Your own Airflow, its AIRFLOW_HOME and the
variables AIRFLOW* and AWS_* of your shell are not used. Nothing is sent to Amazon.
"""
_LOOPBACK = "127.0.0.1"
# The exit status of a program that Ctrl-C has ended.
_INTERRUPTED = 130


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_amzbiz.demo",
        description="Run three example DAGs on a real Airflow, from the sandbox to a real S3 server.",
        epilog=_EPILOG,
    )
    parser.add_argument("--ui", action="store_true", help="serve all examples in Airflow's UI, until Ctrl-C")
    parser.add_argument("--dags", type=_folder, metavar="FOLDER", help="serve your DAGs, too; implies --ui")
    parser.add_argument(
        "--port", type=_free_port, default=0, help="port of Airflow's UI; 0 (default) takes a free one"
    )
    parser.add_argument(
        "--statsd", type=_address, metavar="HOST:PORT", help="send Airflow's metrics to this StatsD server"
    )
    return parser


def main() -> int:
    """Run or serve the examples in a temporary folder; return the exit status."""
    given = arguments().parse_args()
    if missing := missing_requirements("demo"):
        print(
            f"The demo needs {', '.join(missing)}: pip install 'airflow-provider-amzbiz[demo]'",
            file=sys.stderr,
        )
        return 1
    _isolate()
    _stop_on_signals()
    serves = given.ui or given.dags is not None
    try:
        with tempfile.TemporaryDirectory(prefix="amzbiz-demo-") as folder:
            return _demo(Path(folder), given, serves=serves)
    except KeyboardInterrupt:
        print("\nStopped; everything is removed", flush=True)
        return 0 if serves else _INTERRUPTED
    except RuntimeError as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def _demo(folder: Path, given: argparse.Namespace, *, serves: bool) -> int:
    # They need the extra, so they are imported after the check.
    from airflow_provider_amzbiz.demo.run import run_examples
    from airflow_provider_amzbiz.demo.stage import stage
    from airflow_provider_amzbiz.demo.tour import serve

    clock = Clock()
    clock.log(
        f"Starting Airflow {version('apache-airflow')}, the sandbox of the Amazon Business APIs and an S3 server; "
        "Ctrl-C stops and removes them"
    )
    with stage(folder, dags=given.dags, port=given.port, statsd=given.statsd) as on:
        clock.log(
            f"Airflow is at {on.airflow.url} (it needs no password), its files in {on.airflow.home}, "
            f"the sandbox at {on.sandbox.url}, S3 at {on.s3.endpoint_url}"
        )
        if serves:
            serve(on, own_dags=given.dags)
        results = run_examples(on, folder, clock.log)
        clock.log("Stopping")
    clock.log("Everything is stopped and removed")
    print(results.summary)
    return 0 if results.succeeded else 1


def _isolate() -> None:
    """Drop the variables that would lead to another Airflow or AWS account, or through a proxy."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
        del os.environ[name]
    # The lower-case name wins where both are set.
    os.environ.pop("no_proxy", None)
    os.environ["NO_PROXY"] = f"{_LOOPBACK},localhost"


def _stop_on_signals() -> None:
    # A shell starts a background job with SIGINT ignored, and nohup ignores SIGHUP on purpose.
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C would end the clean-up halfway.
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, interrupt)


def _folder(given: str) -> Path:
    folder = Path(given)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {given!r}")
    return folder.resolve()


def _free_port(given: str) -> int:
    if not given.isdecimal() or int(given) > 65535:
        raise argparse.ArgumentTypeError(f"{given!r} is not a port, which is a number from 0 to 65535")
    try:
        socket.create_server((_LOOPBACK, int(given))).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"port {given} cannot be used ({os.strerror(error.errno or 0)}); give another one, or 0 for a free one"
        ) from None
    return int(given)


def _address(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{given!r} is not HOST:PORT, such as 127.0.0.1:9125")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
