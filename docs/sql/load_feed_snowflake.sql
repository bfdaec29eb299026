{% set result = ti.xcom_pull(task_ids="all_invoices") %}
{% set run = result["tables"]["documents"][0].rpartition("/")[2].removesuffix(".jsonl") %}
DELETE FROM feed_runs WHERE loaded_run = '{{ run }}';

INSERT INTO feed_runs VALUES (
    '{{ run }}', '{{ run_id }}', {{ result["requested"] }}, {{ result["landed"] }}, {{ result["already_delivered"] }},
    {{ result["failed"] }}, {{ result["skipped"] }}, {{ result["open_items"] }}, {{ result["bytes"] }},
    '{{ result["account"] }}'
);

{% for table, uris in result["tables"].items() %}
DELETE FROM new_{{ table }};

{% for uri in uris %}
COPY INTO new_{{ table }} FROM @feed FILES = ('{{ uri.removeprefix("s3://my-bucket/") }}')
FILE_FORMAT = (TYPE = JSON) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE FORCE = TRUE;

{% endfor %}
UPDATE new_{{ table }} SET loaded_run = '{{ run }}';

{% endfor %}
{% include "merge_feed.sql" %}
