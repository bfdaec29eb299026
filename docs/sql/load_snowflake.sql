DELETE FROM order_lines WHERE report_day = '{{ data_interval_start | ds }}';

COPY INTO order_lines (
    report_day, order_date, order_id, line, asin, title, category, quantity, unit_price, currency,
    purchase_order, cost_center, seller, tax_rate, tax, total, status
)
FROM (
    SELECT TO_DATE('{{ data_interval_start | ds }}'),
           $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
    FROM @reports
)
FILES = ('{{ ti.xcom_pull(task_ids="move")[0]["uri"].removeprefix("s3://my-bucket/") }}')
FILE_FORMAT = (
    TYPE = CSV FIELD_DELIMITER = '\t' SKIP_HEADER = 1 ENCODING = 'UTF8' COMPRESSION = NONE
    FIELD_OPTIONALLY_ENCLOSED_BY = NONE ESCAPE_UNENCLOSED_FIELD = NONE
)
FORCE = TRUE;
