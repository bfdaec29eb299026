"""Many reports as one piece of work: what was planned, what came of it, and the steps in between.

Plain Python without Airflow. :mod:`.plan` turns requests into items, :mod:`.record` keeps them in S3 so that any
process can continue, and :mod:`.round` does what one process can do now.
"""
