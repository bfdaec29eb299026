"""A document's bytes, from its presigned URL to S3. Knows no Airflow.

:mod:`.to_s3` copies a document: :mod:`.download` reads the raw bytes, :mod:`.unwrap` undoes gzip and ZIP,
:mod:`.content` finds out what they are, :mod:`.charset` converts text to UTF-8, and :mod:`.upload` writes objects,
the large ones through :mod:`.multipart`. :mod:`.rollback` deletes them if a transfer fails. :mod:`.text`
reads the beginning of a document for an error message.
"""
