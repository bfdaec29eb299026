CREATE TEMP TABLE new_lines (LIKE order_lines);

COPY new_lines (
    order_date, order_id, line, asin, title, category, quantity, unit_price, currency,
    purchase_order, cost_center, seller, tax_rate, tax, total, status
)
FROM '{{ ti.xcom_pull(task_ids="move")[0]["uri"] }}'
IAM_ROLE default
DELIMITER '\t' IGNOREHEADER 1 ENCODING UTF8 DATEFORMAT 'auto' EMPTYASNULL;

UPDATE new_lines SET report_day = '{{ data_interval_start | ds }}';

DELETE FROM order_lines WHERE report_day = '{{ data_interval_start | ds }}';

INSERT INTO order_lines SELECT * FROM new_lines;
