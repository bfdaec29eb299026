{% set result = ti.xcom_pull(task_ids="all_invoices") %}
-- A task that was cleared has several files for each table, the latest one last.
{% for file in result["tables"]["documents"] %}
{% set number, is_latest = loop.index0, loop.last %}
{% set run = file.rpartition("/")[2].removesuffix(".jsonl") %}
{% include "record_run.sql" %}

{% for table, uris in result["tables"].items() %}
DELETE FROM new_{{ table }};

COPY INTO new_{{ table }} FROM @feed FILES = ('{{ uris[number].removeprefix("s3://my-bucket/") }}')
FILE_FORMAT = (TYPE = JSON) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE FORCE = TRUE;

UPDATE new_{{ table }} SET loaded_run = '{{ run }}';

{% endfor %}
{% include "merge_feed.sql" %}

{% endfor %}
