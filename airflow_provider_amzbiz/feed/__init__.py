"""All invoices of an account: from its transactions to the documents to ask for, and to tables for a warehouse.

Plain Python without Airflow. :mod:`.run` is where to begin reading: a run reads the transactions of a window,
freezes what it found as a plan, and, once the documents are stored, writes the tables and advances the cursor.
"""
