{% set result = ti.xcom_pull(task_ids="all_invoices") %}
-- A task that was cleared has several files for each table, the latest one last.
{% for file in result["tables"]["documents"] %}
{% set number, is_latest = loop.index0, loop.last %}
{% set run = file.rpartition("/")[2].removesuffix(".jsonl") %}
{% if is_latest %}
DELETE FROM feed_runs WHERE loaded_run = '{{ run }}';

INSERT INTO feed_runs VALUES (
    '{{ run }}', '{{ run_id }}', {{ result["requested"] }}, {{ result["landed"] }}, {{ result["already_delivered"] }},
    {{ result["failed"] }}, {{ result["skipped"] }}, {{ result["open_items"] }}, {{ result["bytes"] }},
    '{{ result["account"] }}'
);
{% else %}
INSERT INTO feed_runs (loaded_run, run_id, account)
SELECT '{{ run }}', '{{ run_id }}', '{{ result["account"] }}'
FROM (SELECT COUNT(*) AS known FROM feed_runs WHERE loaded_run = '{{ run }}') AS runs
WHERE known = 0;
{% endif %}

{% for table, uris in result["tables"].items() %}
DELETE FROM new_{{ table }};

COPY INTO new_{{ table }} FROM @feed FILES = ('{{ uris[number].removeprefix("s3://my-bucket/") }}')
FILE_FORMAT = (TYPE = JSON) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE FORCE = TRUE;

UPDATE new_{{ table }} SET loaded_run = '{{ run }}';

{% endfor %}
{% include "merge_feed.sql" %}

{% endfor %}
