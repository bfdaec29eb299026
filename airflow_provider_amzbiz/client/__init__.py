"""The Amazon Business Reports API in Python, without Airflow.

:mod:`.reports` has the five operations, :mod:`.transport` one HTTP call with its retries, :mod:`.permit_queue` and
:mod:`.token_bucket` the rate limits of a process, :mod:`.shared_bucket` and :mod:`.limit_store` those of all
processes together, :mod:`.auth` the access token, :mod:`.config` where to call and as whom, :mod:`.parameters`
what may be sent, :mod:`.models` what comes back and :mod:`.errors` what can go wrong.
"""
