"""Rendering templates of a task with thousands of strings, of which hardly any is a template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_amzbiz.compat import BaseOperator, Context
else:
    # A base operator of its own would end the chain of constructors on Airflow 2.
    BaseOperator = object


class PlainStrings(BaseOperator):
    """For an operator: renders a string without a template in it as what it is.

    Airflow compiles each string of a templated field as a template of its own, at each resume again: of a batch of
    10,000 requests, that is three seconds of CPU every few minutes.

    :cvar frozen_fields: templated fields that a resumed task does not need, and so does not render.
    """

    frozen_fields: Iterable[str] = ()

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value, and all values in it; strings without a delimiter are not compiled."""
        if (
            type(content) is str
            and jinja_env is not None
            and not self.template_ext
            and _is_plain(content, jinja_env)
        ):
            return self.__native(content) if self.__is_native(jinja_env) else content
        return super().render_template(content, context, jinja_env, seen_oids)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
        **more: Any,
    ) -> None:
        if parent is self and is_resumed(context):
            template_fields = [name for name in template_fields if name not in self.frozen_fields]
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids, **more)

    def __is_native(self, jinja_env: jinja2.Environment) -> bool:
        from jinja2.nativetypes import NativeEnvironment

        chosen = getattr(self, "render_template_as_native_obj", None)
        return isinstance(jinja_env, NativeEnvironment) if chosen is None else bool(chosen)

    @staticmethod
    def __native(content: str) -> Any:
        """Return what native rendering makes of a constant: ``"7"`` is a number there."""
        from jinja2.nativetypes import native_concat

        return native_concat([content])


def is_resumed(context: Context) -> bool:
    """Tell whether the task resumes after a deferral, before Airflow calls the method that does."""
    ti: Any = context.get("ti")
    # Airflow 3 keeps it in what the server told of the task instance, Airflow 2 in the task instance.
    holders = (getattr(ti, "_ti_context_from_server", None), ti)
    return any(isinstance(getattr(each, "next_method", None), str) for each in holders)


def _is_plain(content: str, env: jinja2.Environment) -> bool:
    """Tell whether rendering leaves a string as it is: Jinja may change the ends of lines, too."""
    from jinja2.ext import Extension

    if not content:
        # Native rendering makes it None.
        return False
    delimiters = (
        env.block_start_string,
        env.variable_start_string,
        env.comment_start_string,
        env.line_statement_prefix,
        env.line_comment_prefix,
        "\n",
        "\r",
    )
    if any(each and each in content for each in delimiters):
        return False
    changing = (Extension.preprocess, Extension.filter_stream)
    return all((type(each).preprocess, type(each).filter_stream) == changing for each in env.extensions.values())
