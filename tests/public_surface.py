"""Describes the public interface: what ``docs/api`` names, the arguments of triggers, and the connection's fields.

``make public-surface`` records it in ``tests/public_surface.txt``.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from airflow.triggers.base import BaseTrigger

from airflow_provider_amzbiz.get_provider_info import CONNECTION_FIELDS, get_provider_info

RECORD = Path(__file__).with_suffix(".txt")
API_PAGES = Path(__file__).parent.parent / "docs" / "api"
# A directive of Sphinx, and the indented lines of its options.
_DIRECTIVE = re.compile(r"^\.\. auto(class|function|module):: (\S+)\n((?:[ ]+\S.*\n)*)", re.MULTILINE)
_OPTION = re.compile(r":(members|exclude-members):([^:]*)")


def describe() -> str:
    """Return the public interface as text, with one parameter in a line."""
    blocks = set()
    for page in API_PAGES.glob("*.rst"):
        for kind, path, options in _DIRECTIVE.findall(page.read_text() + "\n"):
            lists = {option: set(re.findall(r"\w+", names)) for option, names in _OPTION.findall(options)}
            blocks |= set(_blocks(kind, path, lists))
    blocks |= {_block(f"trigger {path}", _parameters(kind)) for path, kind in _triggers()}
    blocks.add(_block("function airflow_provider_amzbiz.task_groups.report_to_s3", _parameters(_task_group())))
    fields = [f"{name}: {spec['schema'].get('type')}" for name, spec in sorted(CONNECTION_FIELDS.items())]
    blocks.add(_block("extras of a connection", fields))
    return "\n".join(sorted(blocks))


def _blocks(kind: str, path: str, options: dict[str, set[str]]) -> Iterator[str]:
    if kind == "module":
        module = importlib.import_module(path)
        names = options.get("members") or {
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == path and not name.startswith("_") and callable(value)
        }
        for name in names - options.get("exclude-members", set()):
            yield _describe(f"{path}.{name}", {})
    else:
        yield _describe(path, options)


def _describe(path: str, options: dict[str, set[str]]) -> str:
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if not inspect.isclass(value):
        return _block(f"function {path}", _parameters(value))
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    lines = list(_constants(value))
    if "__init__" in vars(value) or "__new__" in vars(value):
        lines += _parameters(value)
    for member in sorted(_members(value, options)):
        lines += _member(value, member)
    return _block(f"class {path}({bases})", lines)


def _members(kind: type, options: dict[str, set[str]]) -> set[str]:
    if "members" not in options:
        return set()
    own = {name for name, value in vars(kind).items() if not name.startswith("_") and value.__doc__}
    documented = {name for name in own if callable(getattr(kind, name)) or isinstance(vars(kind)[name], property)}
    return (options["members"] or documented) - options.get("exclude-members", set())


def _member(kind: type, name: str) -> Iterator[str]:
    value = getattr(kind, name, None)
    if not callable(value):
        yield f".{name}"
        return
    signature = inspect.signature(value)
    returned = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    yield f".{name}(){returned}"
    for line in _parameters(value):
        yield f"    {line}"


def _constants(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{each.name} = {each.value!r}" for each in kind)
    for name in ("template_fields", "operator_extra_links"):
        if values := getattr(kind, name, None):
            shown = [each if isinstance(each, str) else type(each).__name__ for each in values]
            yield f"{name}: {', '.join(shown)}"


def _parameters(value: Callable[..., object]) -> Iterator[str]:
    if inspect.isclass(value):
        if issubclass(value, enum.Enum):
            return
        value = value.__init__ if "__init__" in vars(value) else value
    keyword_only = False
    for name, each in inspect.signature(value).parameters.items():
        if name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        annotation = "" if each.annotation is each.empty else f": {each.annotation}"
        default = "" if each.default is each.empty else f" = {_shown(each.default)}"
        yield f"{stars}{name}{annotation}{default}"


def _shown(default: object) -> str:
    # An address in memory is a different one in each process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(default))


def _triggers() -> Iterator[tuple[str, type]]:
    for entry in get_provider_info()["triggers"]:
        for path in entry["python-modules"]:
            for name, kind in inspect.getmembers(importlib.import_module(path), inspect.isclass):
                if issubclass(kind, BaseTrigger) and kind.__module__ == path:
                    yield f"{path}.{name}", kind


def _task_group() -> Callable[..., object]:
    from airflow_provider_amzbiz.task_groups import report_to_s3

    return report_to_s3.function


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([head, *(f"    {line}" for line in lines)]) + "\n"


def main() -> None:
    """Record the public interface as it is now."""
    RECORD.write_text(describe())


if __name__ == "__main__":
    main()
