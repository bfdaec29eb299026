FROM astrocrpublic.azurecr.io/runtime:3.1-1
COPY dist/*.whl /tmp/
RUN pip install --no-cache-dir "airflow-provider-amzbiz[amazon,parquet,redis] @ file:///tmp/airflow_provider_amzbiz-1.0.0-py3-none-any.whl"
