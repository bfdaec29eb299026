{% set result = ti.xcom_pull(task_ids="all_invoices") %}
-- A task that was cleared has several files for each table, the latest one last.
{% for file in result["tables"]["documents"] %}
{% set number, is_latest = loop.index0, loop.last %}
{% set run = file.rpartition("/")[2].removesuffix(".jsonl") %}
-- LOAD DATA cannot be part of a transaction, so it comes before.
{% for table, uris in result["tables"].items() %}
TRUNCATE TABLE new_{{ table }};

LOAD DATA INTO new_{{ table }} FROM FILES (
    format = 'JSON', uris = ['{{ uris[number].replace("s3://my-bucket/", "gs://my-bucket/") }}']
);

UPDATE new_{{ table }} SET loaded_run = '{{ run }}' WHERE TRUE;

{% endfor %}
BEGIN TRANSACTION;

{% include "record_run.sql" %}

{% include "merge_feed.sql" %}

COMMIT TRANSACTION;

{% endfor %}
