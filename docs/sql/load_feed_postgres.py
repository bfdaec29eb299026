"""Loads a run of the feed into PostgreSQL."""

import json
from pathlib import Path

HERE = Path(__file__).parent
# JSON escapes both characters, so that no line has them: each one is read as it is.
COPY = r"COPY new_lines FROM STDIN WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
COLUMNS = ("requested", "landed", "already_delivered", "failed", "skipped", "open_items", "bytes", "account")


def load_feed(cursor, s3, result, run_id):
    """Load one run, as a part of the cursor's transaction.

    :param cursor: of psycopg2.
    :param s3: a boto3 client.
    :param result: the return value of ``InvoicesToS3Operator``.
    """
    loaded_run = Path(result["tables"]["documents"][0]).stem
    cursor.execute("DELETE FROM feed_runs WHERE loaded_run = %s", [loaded_run])
    cursor.execute(
        "INSERT INTO feed_runs VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [loaded_run, run_id, *(result[name] for name in COLUMNS)],
    )
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS new_lines (line jsonb) ON COMMIT DROP")
    for table, uris in result["tables"].items():
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS new_{table} (LIKE {table}) ON COMMIT DROP")
        cursor.execute(f"TRUNCATE new_lines, new_{table}")
        for uri in uris:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            cursor.copy_expert(COPY, s3.get_object(Bucket=bucket, Key=key)["Body"])
        cursor.execute(
            f"INSERT INTO new_{table} SELECT typed.* "
            f"FROM new_lines, jsonb_populate_record(NULL::{table}, line || %s) AS typed",
            [json.dumps({"loaded_run": loaded_run})],
        )
    cursor.execute((HERE / "merge_feed.sql").read_text())
