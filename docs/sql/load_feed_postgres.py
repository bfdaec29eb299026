"""Loads a run of the feed into PostgreSQL."""

import json
from pathlib import Path

HERE = Path(__file__).parent
# JSON escapes both characters, so that no line has them: each one is read as it is.
COPY = r"COPY new_lines FROM STDIN WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
COUNTS = ("requested", "landed", "already_delivered", "failed", "skipped", "open_items", "bytes")


def load_feed(cursor, s3, result, run_id):
    """Load one run, as a part of the cursor's transaction.

    :param cursor: of psycopg2.
    :param s3: a boto3 client.
    :param result: the return value of ``InvoicesToS3Operator``.
    """
    # A task that was cleared has several files for each table, the latest one last.
    *earlier, latest = range(len(result["tables"]["documents"]))
    for number in (*earlier, latest):
        uris = {table: found[number] for table, found in result["tables"].items()}
        loaded_run = Path(uris["documents"]).stem
        cursor.execute(
            "INSERT INTO feed_runs (loaded_run, run_id, account) SELECT %s, %s, %s "
            "WHERE NOT EXISTS (SELECT 1 FROM feed_runs WHERE loaded_run = %s)",
            [loaded_run, run_id, result["account"], loaded_run],
        )
        if number == latest:
            cursor.execute(
                f"UPDATE feed_runs SET ({', '.join(COUNTS)}) = (%s, %s, %s, %s, %s, %s, %s) WHERE loaded_run = %s",
                [*(result[name] for name in COUNTS), loaded_run],
            )
        load_files(cursor, s3, uris, loaded_run)


def load_files(cursor, s3, uris, loaded_run):
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS new_lines (line jsonb) ON COMMIT DROP")
    for table, uri in uris.items():
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS new_{table} (LIKE {table}) ON COMMIT DROP")
        cursor.execute(f"TRUNCATE new_lines, new_{table}")
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        cursor.copy_expert(COPY, s3.get_object(Bucket=bucket, Key=key)["Body"])
        cursor.execute(
            f"INSERT INTO new_{table} SELECT typed.* "
            f"FROM new_lines, jsonb_populate_record(NULL::{table}, line || %s) AS typed",
            [json.dumps({"loaded_run": loaded_run})],
        )
    cursor.execute((HERE / "merge_feed.sql").read_text())
