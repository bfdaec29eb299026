-- The operator's parameter `tables`, or a local copy of what is there.
SET VARIABLE tables = rtrim('{tables}', '/');

-- The runs whose files are all there. Their names sort in the order of the runs.
CREATE OR REPLACE TABLE feed_runs AS
SELECT parse_filename(filename, true) AS loaded_run, * EXCLUDE (filename)
FROM read_json(
    getvariable('tables') || '/_SUCCESS/*.json',
    format = 'unstructured',
    columns = {
        run_id: 'VARCHAR',
        requested: 'BIGINT',
        landed: 'BIGINT',
        already_delivered: 'BIGINT',
        failed: 'BIGINT',
        skipped: 'BIGINT',
        open_items: 'BIGINT',
        bytes: 'BIGINT',
        account: 'VARCHAR'
    },
    filename = true
);

CREATE OR REPLACE TEMP TABLE all_documents AS
SELECT * EXCLUDE (filename), parse_filename(filename, true) AS loaded_run
FROM read_json(
    getvariable('tables') || '/documents/*.jsonl',
    format = 'newline_delimited',
    columns = {
        document_number: 'VARCHAR',
        document_type: 'VARCHAR',
        consolidated_number: 'VARCHAR',
        document_date: 'TIMESTAMPTZ',
        marketplace_id: 'VARCHAR',
        legal_entity: 'VARCHAR',
        group_name: 'VARCHAR',
        order_ids: 'VARCHAR[]',
        purchase_order_numbers: 'VARCHAR[]',
        currency: 'VARCHAR',
        total_amount: 'DECIMAL(38, 9)',
        tax_amount: 'DECIMAL(38, 9)',
        issuer_name: 'VARCHAR',
        issuer_registration_number: 'VARCHAR',
        payment_instrument_type: 'VARCHAR',
        last4: 'VARCHAR',
        charge_identifier: 'VARCHAR',
        due_date: 'TIMESTAMPTZ',
        payment_status: 'VARCHAR',
        related_document_number: 'VARCHAR',
        report_id: 'VARCHAR',
        report_document_id: 'VARCHAR',
        object_uri: 'VARCHAR',
        size_bytes: 'BIGINT',
        sha256: 'VARCHAR',
        archive_entry: 'VARCHAR',
        requested_options: 'VARCHAR',
        feed_date_min: 'TIMESTAMPTZ',
        feed_date_max: 'TIMESTAMPTZ',
        fetched_at: 'TIMESTAMPTZ',
        run_id: 'VARCHAR',
        account: 'VARCHAR'
    },
    filename = true
)
WHERE parse_filename(filename, true) IN (SELECT loaded_run FROM feed_runs);

CREATE OR REPLACE TEMP TABLE all_document_lines AS
SELECT * EXCLUDE (filename), parse_filename(filename, true) AS loaded_run
FROM read_json(
    getvariable('tables') || '/document_lines/*.jsonl',
    format = 'newline_delimited',
    columns = {
        document_number: 'VARCHAR',
        transaction_id: 'VARCHAR',
        transaction_type: 'VARCHAR',
        transaction_date: 'TIMESTAMPTZ',
        feed_date: 'TIMESTAMPTZ',
        order_id: 'VARCHAR',
        order_line_item_id: 'VARCHAR',
        shipment_id: 'VARCHAR',
        shipment_date: 'TIMESTAMPTZ',
        po_number: 'VARCHAR',
        po_line: 'VARCHAR',
        asin: 'VARCHAR',
        title: 'VARCHAR',
        quantity: 'BIGINT',
        unit_price: 'DECIMAL(38, 9)',
        principal: 'DECIMAL(38, 9)',
        shipping: 'DECIMAL(38, 9)',
        gift_wrap: 'DECIMAL(38, 9)',
        regulatory_fee: 'DECIMAL(38, 9)',
        discount: 'DECIMAL(38, 9)',
        tax: 'DECIMAL(38, 9)',
        tax_rate: 'VARCHAR',
        total: 'DECIMAL(38, 9)',
        unspsc: 'VARCHAR',
        refund_reason: 'VARCHAR',
        budget_id: 'VARCHAR',
        business_order_info: 'VARCHAR',
        buyer: 'VARCHAR',
        document_type: 'VARCHAR',
        marketplace_id: 'VARCHAR',
        currency: 'VARCHAR',
        line_number: 'BIGINT',
        is_retracted: 'BOOLEAN',
        run_id: 'VARCHAR',
        account: 'VARCHAR'
    },
    filename = true
)
WHERE parse_filename(filename, true) IN (SELECT loaded_run FROM feed_runs);

CREATE OR REPLACE TEMP TABLE all_transactions AS
SELECT * EXCLUDE (filename), parse_filename(filename, true) AS loaded_run
FROM read_json(
    getvariable('tables') || '/transactions/*.jsonl',
    format = 'newline_delimited',
    columns = {
        transaction_id: 'VARCHAR',
        line_number: 'BIGINT',
        transaction_type: 'VARCHAR',
        transaction_date: 'TIMESTAMPTZ',
        feed_date: 'TIMESTAMPTZ',
        marketplace_id: 'VARCHAR',
        legal_entity: 'VARCHAR',
        group_name: 'VARCHAR',
        invoice_number: 'VARCHAR',
        amount: 'DECIMAL(38, 9)',
        currency: 'VARCHAR',
        payment_instrument_type: 'VARCHAR',
        last4: 'VARCHAR',
        charge_identifier: 'VARCHAR',
        associated_transaction_ids: 'VARCHAR[]',
        ship_tax_rate: 'VARCHAR',
        gift_wrap_tax_rate: 'VARCHAR',
        order_id: 'VARCHAR',
        order_line_item_id: 'VARCHAR',
        shipment_id: 'VARCHAR',
        shipment_date: 'TIMESTAMPTZ',
        po_number: 'VARCHAR',
        po_line: 'VARCHAR',
        asin: 'VARCHAR',
        title: 'VARCHAR',
        quantity: 'BIGINT',
        unit_price: 'DECIMAL(38, 9)',
        principal: 'DECIMAL(38, 9)',
        shipping: 'DECIMAL(38, 9)',
        gift_wrap: 'DECIMAL(38, 9)',
        regulatory_fee: 'DECIMAL(38, 9)',
        discount: 'DECIMAL(38, 9)',
        tax: 'DECIMAL(38, 9)',
        tax_rate: 'VARCHAR',
        total: 'DECIMAL(38, 9)',
        unspsc: 'VARCHAR',
        refund_reason: 'VARCHAR',
        budget_id: 'VARCHAR',
        business_order_info: 'VARCHAR',
        seller_name: 'VARCHAR',
        buyer: 'VARCHAR',
        payer: 'VARCHAR',
        run_id: 'VARCHAR',
        account: 'VARCHAR'
    },
    filename = true
)
WHERE parse_filename(filename, true) IN (SELECT loaded_run FROM feed_runs);

CREATE OR REPLACE TEMP TABLE all_open_items AS
SELECT * EXCLUDE (filename), parse_filename(filename, true) AS loaded_run
FROM read_json(
    getvariable('tables') || '/open_items/*.jsonl',
    format = 'newline_delimited',
    columns = {
        order_id: 'VARCHAR',
        order_line_item_id: 'VARCHAR',
        shipment_id: 'VARCHAR',
        reason: 'VARCHAR',
        status: 'VARCHAR',
        document_type: 'VARCHAR',
        document_numbers: 'VARCHAR[]',
        marketplace_id: 'VARCHAR',
        transaction_ids: 'VARCHAR[]',
        transaction_date: 'TIMESTAMPTZ',
        feed_date: 'TIMESTAMPTZ',
        currency: 'VARCHAR',
        total: 'DECIMAL(38, 9)',
        legal_entity: 'VARCHAR',
        group_name: 'VARCHAR',
        po_number: 'VARCHAR',
        payment_instrument_type: 'VARCHAR',
        first_asked_at: 'TIMESTAMPTZ',
        last_asked_at: 'TIMESTAMPTZ',
        times_asked: 'BIGINT',
        run_id: 'VARCHAR',
        account: 'VARCHAR'
    },
    filename = true
)
WHERE parse_filename(filename, true) IN (SELECT loaded_run FROM feed_runs);

-- The latest version of each object. Of two runs at the same time, the later one may not know what it stored.
CREATE OR REPLACE TABLE documents AS
SELECT * FROM all_documents
QUALIFY row_number() OVER (
    PARTITION BY object_uri ORDER BY document_number IS NULL, loaded_run DESC
) = 1;

CREATE OR REPLACE TABLE document_lines AS
SELECT * FROM all_document_lines
QUALIFY row_number() OVER (
    PARTITION BY document_number, transaction_id, order_id, order_line_item_id, shipment_id, line_number
    ORDER BY loaded_run DESC
) = 1;

-- A run has all lines of a transaction or none, and an amended transaction may have fewer than before.
CREATE OR REPLACE TABLE transactions AS
SELECT * FROM all_transactions
QUALIFY loaded_run = max(loaded_run) OVER (PARTITION BY transaction_id);

-- Each run has the whole list of its account. What it gives up, it lists for the last time.
CREATE OR REPLACE TABLE open_items AS
SELECT * FROM all_open_items
WHERE loaded_run IN (SELECT max(loaded_run) FROM feed_runs GROUP BY account);

CREATE OR REPLACE TABLE expired_items AS
SELECT * FROM all_open_items WHERE status = 'expired';
