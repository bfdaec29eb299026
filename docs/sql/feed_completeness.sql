-- Each row is something that an auditor should ask about; a complete feed has none. PostgreSQL and DuckDB.
SELECT
    'in no document, and on no list of open or expired items' AS finding,
    line.feed_date,
    line.transaction_id,
    line.line_number,
    line.order_id,
    line.invoice_number AS document_number,
    line.total
FROM transactions AS line
WHERE NOT EXISTS (
    SELECT 1 FROM document_lines AS part
    WHERE part.transaction_id = line.transaction_id AND part.line_number = line.line_number AND NOT part.is_retracted
)
AND NOT EXISTS (
    SELECT 1
    FROM (
        SELECT transaction_ids, order_id, order_line_item_id, shipment_id FROM open_items
        UNION ALL
        SELECT transaction_ids, order_id, order_line_item_id, shipment_id FROM expired_items
    ) AS item
    WHERE line.transaction_id = ANY (item.transaction_ids)
    AND COALESCE(item.order_id, '') = COALESCE(line.order_id, '')
    AND COALESCE(item.order_line_item_id, '') = COALESCE(line.order_line_item_id, '')
    AND COALESCE(item.shipment_id, '') = COALESCE(line.shipment_id, '')
)

UNION ALL

SELECT
    'in a document with another amount than in its transaction',
    part.feed_date, part.transaction_id, part.line_number, part.order_id, part.document_number, part.total
FROM document_lines AS part
LEFT JOIN transactions AS line
    ON line.transaction_id = part.transaction_id AND line.line_number = part.line_number
WHERE NOT part.is_retracted AND COALESCE(part.total, 0) <> COALESCE(line.total, 0)

UNION ALL

-- A consolidated invoice repeats the lines of its invoices.
SELECT
    'in two documents of the same type',
    part.feed_date, part.transaction_id, part.line_number, part.order_id, part.document_number, part.total
FROM document_lines AS part
WHERE NOT part.is_retracted
AND EXISTS (
    SELECT 1 FROM document_lines AS other
    WHERE other.transaction_id = part.transaction_id
    AND other.line_number = part.line_number
    AND other.document_type = part.document_type
    AND other.document_number < part.document_number
    AND NOT other.is_retracted
    AND EXISTS (SELECT 1 FROM documents WHERE consolidated_number = other.document_number)
        = EXISTS (SELECT 1 FROM documents WHERE consolidated_number = part.document_number)
)

UNION ALL

-- In an archive whose files have other names than their documents, a file is known by its orders only.
SELECT
    'in a document that has no file',
    part.feed_date, part.transaction_id, part.line_number, part.order_id, part.document_number, part.total
FROM document_lines AS part
WHERE NOT part.is_retracted
AND NOT EXISTS (SELECT 1 FROM documents AS file WHERE file.document_number = part.document_number)
AND NOT EXISTS (
    SELECT 1 FROM documents AS file
    WHERE file.document_number IS NULL AND part.order_id = ANY (file.order_ids)
)

UNION ALL

SELECT
    'the latest list of open items has lost or extra rows', NULL, NULL, NULL, NULL, NULL, NULL
FROM feed_runs AS run
WHERE run.loaded_run IN (SELECT MAX(loaded_run) FROM feed_runs GROUP BY account)
AND run.open_items <> (SELECT COUNT(*) FROM open_items AS item WHERE item.loaded_run = run.loaded_run);
