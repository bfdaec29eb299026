import pytest


@pytest.mark.usefixtures("airflow_db")
def test_the_whole_dag(amazon_business_sandbox, s3):
    from order_lines import dag

    run = dag.test()

    assert run.state == "success"
    (stored,) = s3.list_objects_v2(Bucket="my-bucket")["Contents"]
    assert stored["Key"].startswith("order_lines/")
