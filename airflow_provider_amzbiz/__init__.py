"""Airflow provider for the Amazon Business Reports API, version 2021-09-30.

Airflow imports this package while it is itself starting up, so nothing may be imported here.
"""

__version__ = "1.0.0"
