"""Sphinx configuration."""

import sys
from pathlib import Path

# The extension is in this repository, which need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_provider_amzbiz import __version__

project = "airflow-provider-amzbiz"
author = "The airflow-provider-amzbiz authors"
copyright = f"2026, {author}"  # noqa: A001
version = release = __version__
extensions = ["sphinx.ext.autodoc", "dev.parameter_tables"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
# Every reference has to lead somewhere; what is others' is named in their documentation, not here.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(datetime|datetime\.\w+|timedelta|collections\.abc\.\w+|airflow\..*)"),
    # An alias, what all models share, and the type of the hook of which a mixin is a part.
    ("py:class", r"OrderLine|JsonModel|decimal\.Decimal|.*\._HasClient"),
    # An error of the client, which the hook turns into one of its own.
    ("py:exc", "UnavailableError"),
    # Airflow's.
    ("py:exc", "AirflowSkipException"),
]
exclude_patterns = ["_build"]
