"""The fields of the connection form of Airflow 2; tests/test_package.py has the form itself."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.get_provider_info import CONNECTION_FIELDS
from airflow_provider_amzbiz.hooks.connection_form import widgets

forms = pytest.importorskip("wtforms", reason="Airflow 2 brings it")
pytest.importorskip("flask_appbuilder", reason="Airflow 2 brings it")


def test_each_extra_has_a_field():
    assert list(widgets()) == list(CONNECTION_FIELDS)


def test_only_the_refresh_token_is_hidden():
    hidden = [name for name, field in widgets().items() if field.field_class is forms.PasswordField]

    assert hidden == ["refresh_token"]


def test_the_fields_have_the_labels_of_newer_forms():
    labels = {name: field.kwargs["label"] for name, field in widgets().items()}

    assert labels == {name: spec["label"] for name, spec in CONNECTION_FIELDS.items()}
