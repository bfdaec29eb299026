"""Documents: bytes in from a presigned URL, bytes out to S3.

No Airflow here, and nothing imported here either: an operator's module is imported by every DAG parse, and boto3,
smart_open, requests and isal are needed only once a transfer runs.

- :mod:`.to_s3` moves one document, start to end.
- :mod:`.text` reads a document's first characters, for a message.
- :mod:`.download` is the body of the URL as one unbroken stream of raw bytes.
- :mod:`.unwrap` undoes gzip, :mod:`.archive` opens a ZIP.
- :mod:`.s3` and :mod:`.parts` write one object.
- :mod:`.errors` is what can go wrong.
"""
