{% set result = ti.xcom_pull(task_ids="all_invoices") %}
{% set run = result["tables"]["documents"][0].rpartition("/")[2].removesuffix(".jsonl") %}
DELETE FROM feed_runs WHERE loaded_run = '{{ run }}';

INSERT INTO feed_runs VALUES (
    '{{ run }}', '{{ run_id }}', {{ result["requested"] }}, {{ result["landed"] }}, {{ result["already_delivered"] }},
    {{ result["failed"] }}, {{ result["skipped"] }}, {{ result["open_items"] }}, {{ result["bytes"] }},
    '{{ result["account"] }}'
);

{% for table, uris in result["tables"].items() %}
CREATE TEMP TABLE new_{{ table }} (LIKE {{ table }});

{% for uri in uris %}
COPY new_{{ table }} FROM '{{ uri }}' IAM_ROLE default FORMAT JSON 'auto' TIMEFORMAT 'auto';

{% endfor %}
UPDATE new_{{ table }} SET loaded_run = '{{ run }}';

{% endfor %}
{% include "merge_feed.sql" %}
