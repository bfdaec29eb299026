"""Many reports as one piece of work: what was planned, what came of it, and the steps in between.

Plain Python without Airflow. :mod:`.ledger` remembers what was delivered, whichever run asked for it, and
:mod:`.table` writes the result for a warehouse.
"""
