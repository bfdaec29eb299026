"""The examples on this machine: a real Airflow, the sandbox and a real S3 server. Needs the extra ``demo``.

``python -m airflow_provider_amzbiz.demo`` runs three example DAGs and checks what they store. With ``--ui`` it
serves all examples in Airflow's UI, and with ``--dags`` your own DAGs beside them.
"""
