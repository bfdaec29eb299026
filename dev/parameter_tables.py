"""A Sphinx directive that writes the table of an operator's parameters from its class.

``.. parameters:: package.module.Class`` gives each parameter's type and default, and says whether it is templated
and can be mapped. The facts come from the signature, ``template_fields`` and Airflow, so they stay true.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from docutils import nodes  # type: ignore[import-untyped]
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_HEADINGS = {"Parameter": 26, "Type": 34, "Default": 22, "Templated": 9, "Mappable": 9}


@dataclass(frozen=True)
class Parameter:
    """One row: what a reader must know to set a parameter."""

    name: str
    type: str
    #: An expression, a duration, or one of Airflow's settings; None if the parameter is required.
    default: str | None
    templated: bool
    mappable: bool


def parameters(path: str) -> Iterator[Parameter]:
    """Yield the parameters of an operator, a sensor or a task group, in the order of its signature.

    :param path: dotted name of the class or group.
    """
    module, _, name = path.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    is_class = inspect.isclass(target)
    function = target.__init__ if is_class else target.function
    settings = _settings(function)
    for each in inspect.signature(function).parameters.values():
        if each.name == "self" or each.kind is each.VAR_KEYWORD:
            continue
        templated = each.name in (target.template_fields if is_class else _templated_in_group(module))
        yield Parameter(
            name=each.name,
            type=_type(each.annotation),
            default=settings.get(each.name) or _default(each),
            templated=templated,
            # Inside a mapped group, Airflow fills in templated fields only.
            mappable=_can_expand(target, each.name) if is_class else templated,
        )


def _templated_in_group(module: str) -> set[str]:
    """Return the templated fields of the operators that a module imports for its group."""
    found = vars(importlib.import_module(module)).values()
    return {field for each in found if inspect.isclass(each) for field in getattr(each, "template_fields", ())}


def _can_expand(operator: Any, name: str) -> bool:
    """Return whether Airflow lets a DAG map over a parameter."""
    required = {
        each.name: "x"
        for each in inspect.signature(operator.__init__).parameters.values()
        if each.default is each.empty and each.kind is each.KEYWORD_ONLY and each.name != name
    }
    with DAG("mapped", schedule=None):
        try:
            operator.partial(task_id="task", **required).expand(**{name: ["x"]})
        except (TypeError, ValueError):
            return False
    return True


def _type(annotation: str) -> str:
    # Airflow renders and stores nothing but plain containers.
    return annotation.replace("Mapping[str, Any]", "dict")


def _settings(function: Any) -> dict[str, str]:
    """Return the parameters whose default is one of Airflow's settings, each with the setting."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    [definition] = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    names = [each.arg for each in definition.args.kwonlyargs]
    found = {}
    for name, default in zip(names, definition.args.kw_defaults, strict=True):
        if isinstance(default, ast.Call) and ast.unparse(default.func) == "conf.getboolean":
            section, option = (ast.literal_eval(each) for each in default.args)
            found[name] = f"[{section}] {option}"
    return found


def _default(parameter: inspect.Parameter) -> str | None:
    value = parameter.default
    if value is parameter.empty:
        return None
    if isinstance(value, float) and "timedelta" in parameter.annotation:
        value = timedelta(seconds=value)
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return repr(value).replace("'", '"')


def _duration(value: timedelta) -> str:
    for unit, seconds in (("day", 86400), ("hour", 3600), ("second", 1)):
        number, rest = divmod(value.total_seconds(), seconds)
        if not rest:
            return f"{number:.0f} {unit}{'s' * (number != 1)}"
    raise AssertionError(f"{value} is not of whole seconds")


class ParametersDirective(SphinxDirective):
    """Write the table of :func:`parameters`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [
            [
                nodes.literal(text=each.name),
                nodes.literal(text=each.type),
                nodes.Text("required") if each.default is None else nodes.literal(text=each.default),
                nodes.Text("yes" if each.templated else "no"),
                nodes.Text("yes" if each.mappable else "no"),
            ]
            for each in parameters(self.arguments[0])
        ]
        columns = [nodes.colspec(colwidth=width) for width in _HEADINGS.values()]
        head = nodes.thead("", _row([nodes.Text(each) for each in _HEADINGS]))
        body = nodes.tbody("", *(_row(row) for row in rows))
        group = nodes.tgroup("", *columns, head, body, cols=len(columns))
        return [nodes.table("", group, classes=["parameters", "colwidths-given"])]


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("parameters", ParametersDirective)
    return {"parallel_read_safe": True}
