"""Sphinx configuration."""

from airflow_provider_amzbiz import __version__

project = "airflow-provider-amzbiz"
author = "The airflow-provider-amzbiz authors"
copyright = f"2026, {author}"  # noqa: A001
version = release = __version__
extensions = ["sphinx.ext.autodoc"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "alabaster"
exclude_patterns = ["_build"]
