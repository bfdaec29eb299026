"""Shows, forgets and rebuilds what a ledger remembers: ``python -m airflow_provider_amzbiz.ledger --help``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.batch.ledger import Delivery, Ledger, LedgerError, accounts_of, record_all
from airflow_provider_amzbiz.batch.ledger_rebuild import rebuild
from airflow_provider_amzbiz.batch.table import label
from airflow_provider_amzbiz.client.errors import ApiError
from airflow_provider_amzbiz.documents.errors import DocumentError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 1 where it could not be done."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    # Airflow 2 sets the root logger to INFO, and then boto3 tells where it found its credentials.
    logging.disable(logging.INFO)
    try:
        return int(given.run(given))
    except (ApiError, DocumentError, LedgerError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_amzbiz.ledger",
        description="Shows, forgets and rebuilds what a ledger of deliveries remembers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print deliveries, a JSON object to a line")
    show.set_defaults(run=_show)
    forget = commands.add_parser(
        "forget", help="delete entries, so that the requests are delivered again; objects in S3 stay"
    )
    forget.set_defaults(run=_forget)
    forget.add_argument("--all", action="store_true", help="forget every delivery that matches, not only one")
    again = commands.add_parser("rebuild", help="record what manifests of batches say was delivered")
    again.set_defaults(run=_rebuild)
    copy = commands.add_parser(
        "copy",
        help="give an account the deliveries that it has by its former refresh token",
    )
    copy.set_defaults(run=_copy)
    for command in (show, forget, again, copy):
        command.add_argument("ledger", help="s3://bucket/prefix/")
        command.add_argument(
            "--aws-conn-id", help="an Airflow connection of type aws; by default boto3's own credential chain"
        )
        command.add_argument(
            "--extra-args",
            type=_json,
            default={},
            help="extra_args of the batch as JSON, or @FILE with it: encryption, expected owner, requester pays",
        )
    for command in (show, forget):
        command.add_argument("--account", help="needed where the ledger has several")
        command.add_argument("--identity", help="SHA-256 of the request, the manifest's fingerprint")
        command.add_argument(
            "--option",
            action="append",
            default=[],
            type=_option,
            metavar="NAME=VALUE",
            help="only requests with this option, such as invoiceId=123; may be repeated",
        )
    copy.add_argument("--source", required=True, help="the account that has the deliveries")
    copy.add_argument("--target", required=True, help="the account that is to have them, too")
    again.add_argument("manifests", nargs="+", help="URIs of manifests, or of folders with a slash at the end")
    return parser


def _json(text: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[1:]} cannot be read: {error.strerror}") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        # Not shown, because it may have a key in it.
        raise argparse.ArgumentTypeError("the value must be a JSON object")
    return content


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"the value is {text!r}, but must be NAME=VALUE")
    return name, value


def _show(given: argparse.Namespace) -> int:
    found = _matching(_ledger(given), given)
    for identity, delivery in sorted(found.items(), key=lambda pair: pair[1].delivered_at):
        print(json.dumps({"identity": identity, **delivery.to_dict()}))
    return 0 if found else _nothing()


def _forget(given: argparse.Namespace) -> int:
    if not given.identity and not given.option:
        print("Name the request with --identity or --option", file=sys.stderr)
        return 1
    ledger = _ledger(given)
    if given.identity and not given.option:
        # Without reading it, because it may be damaged.
        if not ledger.forget(given.identity):
            return _nothing()
        print(f"Forgot {given.identity}")
        return 0
    found = _matching(ledger, given)
    if len(found) > 1 and not given.all:
        print(f"{len(found)} deliveries match; nothing was forgotten. Say --all, or name one:", file=sys.stderr)
        for identity, delivery in found.items():
            print(f"--identity {identity}  {_named(delivery)}", file=sys.stderr)
        return 1
    for identity, delivery in found.items():
        ledger.forget(identity)
        print(f"Forgot {_named(delivery)}")
    return 0 if found else _nothing()


def _rebuild(given: argparse.Namespace) -> int:
    added, unfinished = rebuild(_s3(given), given.ledger, given.manifests, request_args=given.extra_args)
    for account, count in added.items():
        print(f"Account {account}: {count} new entries")
    for uri in unfinished:
        print(f"{uri} was left out, because its batch has not ended: rebuild again when it has", file=sys.stderr)
    if unfinished:
        return 1
    return 0 if added else _nothing()


def _copy(given: argparse.Namespace) -> int:
    s3 = _s3(given)
    source, target = (
        Ledger(s3, given.ledger, account=account, request_args=given.extra_args)
        for account in (given.source, given.target)
    )
    entries = source.entries()
    print(f"{record_all(target, entries)} new entries of {len(entries)}")
    return 0 if entries else _nothing()


def _matching(ledger: Ledger, given: argparse.Namespace) -> Mapping[str, Delivery]:
    wanted = dict(given.option)
    found = ledger.load([given.identity]) if given.identity else ledger.entries()
    return {
        identity: delivery
        for identity, delivery in found.items()
        if all(delivery.report_options.get(name) == value for name, value in wanted.items())
    }


def _ledger(given: argparse.Namespace) -> Ledger:
    s3 = _s3(given)
    account = given.account
    if account is None:
        accounts = accounts_of(s3, given.ledger, given.extra_args)
        if len(accounts) != 1:
            named = ", ".join(accounts) or "none; is the address right?"
            raise LedgerError(f"Name the account with --account. The ledger {given.ledger} has: {named}")
        account = accounts[0]
    return Ledger(s3, given.ledger, account=account, request_args=given.extra_args)


def _s3(given: argparse.Namespace) -> Any:
    # What Airflow logs to the standard output is no part of ours.
    with redirect_stdout(sys.stderr):
        # Not above, because Airflow takes seconds to load.
        from airflow_provider_amzbiz.exceptions import AmazonBusinessError
        from airflow_provider_amzbiz.transfers.s3_connection import s3_client

        try:
            return s3_client(given.aws_conn_id)
        except AmazonBusinessError as error:
            raise DocumentError(str(error)) from None


def _named(delivery: Delivery) -> str:
    uris = ", ".join(each["uri"] for each in delivery.objects)
    return f"{label(delivery.report_type, delivery.report_options)}, report {delivery.report_id}: {uris}"


def _nothing() -> int:
    print("There is no such delivery", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
