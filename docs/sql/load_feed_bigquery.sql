{% set result = ti.xcom_pull(task_ids="all_invoices") %}
{% set run = result["tables"]["documents"][0].rpartition("/")[2].removesuffix(".jsonl") %}
-- LOAD DATA cannot be part of a transaction, so it comes before.
{% for table, uris in result["tables"].items() %}
TRUNCATE TABLE new_{{ table }};

{% for uri in uris %}
LOAD DATA INTO new_{{ table }} FROM FILES (
    format = 'JSON', uris = ['{{ uri.replace("s3://my-bucket/", "gs://my-bucket/") }}']
);

{% endfor %}
UPDATE new_{{ table }} SET loaded_run = '{{ run }}' WHERE TRUE;

{% endfor %}
BEGIN TRANSACTION;

DELETE FROM feed_runs WHERE loaded_run = '{{ run }}';

INSERT INTO feed_runs VALUES (
    '{{ run }}', '{{ run_id }}', {{ result["requested"] }}, {{ result["landed"] }}, {{ result["already_delivered"] }},
    {{ result["failed"] }}, {{ result["skipped"] }}, {{ result["open_items"] }}, {{ result["bytes"] }},
    '{{ result["account"] }}'
);

{% include "merge_feed.sql" %}

COMMIT TRANSACTION;
