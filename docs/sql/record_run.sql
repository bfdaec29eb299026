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
