"""A document's bytes, from its presigned URL to S3. Knows no Airflow.

:mod:`.to_s3` does the whole way: :mod:`.download` brings the raw bytes, :mod:`.unwrap` undoes gzip and ZIP,
:mod:`.content` tells what they are, :mod:`.charset` makes text UTF-8, :mod:`.upload` writes objects. :mod:`.text`
reads the beginning of a document for an error message.
"""
