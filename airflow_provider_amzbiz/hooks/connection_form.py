"""The connection form of Airflow 2.11 to 3.1; newer versions read its fields from ``get_provider_info``."""

from __future__ import annotations

from typing import Any

from airflow_provider_amzbiz.get_provider_info import CONNECTION_FIELDS


def widgets() -> dict[str, Any]:
    """Return the form's fields for the extras, by name."""
    return {name: _field(spec) for name, spec in CONNECTION_FIELDS.items()}


def _field(spec: dict[str, Any]) -> Any:
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional, any_of

    about, schema = {"label": spec["label"], "description": spec["description"]}, spec["schema"]
    if schema.get("format") == "password":
        return PasswordField(widget=BS3PasswordFieldWidget(), **about)
    # One form holds the fields of all connection types there, and those of the others stay empty.
    validators = [Optional(), any_of(schema["enum"])] if "enum" in schema else [Optional()]
    return StringField(widget=BS3TextFieldWidget(), validators=validators, **about)
