-- From the staging tables, which hold one run, into the tables: the same in every database, in one transaction. What a
-- later run has brought stays, so runs may be loaded again, and in any order.
-- Of two runs at the same time, the later one may not know what it stored: a number is never lost again.
DELETE FROM documents WHERE EXISTS (
    SELECT 1 FROM new_documents AS staged
    WHERE staged.object_uri = documents.object_uri
    AND (staged.document_number IS NOT NULL OR documents.document_number IS NULL)
    AND (
        staged.loaded_run >= documents.loaded_run
        OR (staged.document_number IS NOT NULL AND documents.document_number IS NULL)
    )
);

INSERT INTO documents SELECT * FROM new_documents AS staged WHERE NOT EXISTS (
    SELECT 1 FROM documents AS kept WHERE kept.object_uri = staged.object_uri
);

DELETE FROM document_lines WHERE EXISTS (
    SELECT 1 FROM new_document_lines AS staged
    WHERE staged.transaction_id = document_lines.transaction_id
    AND staged.line_number = document_lines.line_number
    AND staged.document_number = document_lines.document_number
    AND COALESCE(staged.order_id, '') = COALESCE(document_lines.order_id, '')
    AND COALESCE(staged.order_line_item_id, '') = COALESCE(document_lines.order_line_item_id, '')
    AND COALESCE(staged.shipment_id, '') = COALESCE(document_lines.shipment_id, '')
    AND staged.loaded_run >= document_lines.loaded_run
);

INSERT INTO document_lines SELECT * FROM new_document_lines AS staged WHERE NOT EXISTS (
    SELECT 1 FROM document_lines AS kept
    WHERE kept.transaction_id = staged.transaction_id
    AND kept.line_number = staged.line_number
    AND kept.document_number = staged.document_number
    AND COALESCE(kept.order_id, '') = COALESCE(staged.order_id, '')
    AND COALESCE(kept.order_line_item_id, '') = COALESCE(staged.order_line_item_id, '')
    AND COALESCE(kept.shipment_id, '') = COALESCE(staged.shipment_id, '')
);

-- All lines of a transaction at once: an amended one may have fewer than before.
DELETE FROM transactions WHERE EXISTS (
    SELECT 1 FROM new_transactions AS staged
    WHERE staged.transaction_id = transactions.transaction_id AND staged.loaded_run >= transactions.loaded_run
);

INSERT INTO transactions SELECT * FROM new_transactions AS staged WHERE NOT EXISTS (
    SELECT 1 FROM transactions AS kept WHERE kept.transaction_id = staged.transaction_id
);

-- The whole list as of each account's latest run, and apart from it what any run gave up.
DELETE FROM open_items
WHERE loaded_run NOT IN (SELECT MAX(loaded_run) FROM feed_runs GROUP BY account)
OR loaded_run IN (SELECT loaded_run FROM new_open_items);

INSERT INTO open_items SELECT * FROM new_open_items
WHERE loaded_run IN (SELECT MAX(loaded_run) FROM feed_runs GROUP BY account);

DELETE FROM expired_items WHERE loaded_run IN (SELECT loaded_run FROM new_open_items);

INSERT INTO expired_items SELECT * FROM new_open_items WHERE status = 'expired';
