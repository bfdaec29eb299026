SELECT ti.dag_id, ti.task_id, ti.run_id
FROM task_instance ti JOIN trigger t ON ti.trigger_id = t.id
WHERE t.classpath LIKE 'airflow_provider_amzbiz.%'
