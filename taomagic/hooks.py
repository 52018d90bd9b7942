"""What the extension hooks into IPython besides its magics: completion, and `!tao …` lines.

Both are added by :func:`install` and taken away by :func:`remove`. The rules are :mod:`taomagic.launcher.completion`
and :mod:`taomagic.launcher.shell_lines`; here they meet IPython 8.12 to 9.
"""

# IPython's classes have no types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator, misc"
from __future__ import annotations

import tokenize
from collections.abc import Callable, Sequence
from typing import Any

from IPython.core.inputtransformer2 import EscapedCommand, assemble_continued_line

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.shell_lines import as_line_magic, as_magic, with_backslashes

#: The name under which IPython knows the completion, e.g. in ``%config IPCompleter.disable_matchers``.
MATCHER = "taomagic"
_MARK = "_of_taomagic"


def install(shell: Any, *, shell_lines: Callable[[], bool]) -> None:
    """Add completion and the reading of ``!tao`` lines to a shell.

    Parameters
    ----------
    shell
        The InteractiveShell.
    shell_lines
        Asked for each cell: whether ``!tao`` lines become magics.
    """
    remove(shell)
    manager = shell.input_transformer_manager
    manager.token_transformers.append(_shell_line(shell_lines))
    shell.input_transformers_cleanup.append(_marked(forgiving))
    if hasattr(shell.Completer, "custom_matchers"):
        shell.Completer.custom_matchers.append(_matcher(shell))


def remove(shell: Any) -> None:
    """Take everything away that :func:`install` has added to a shell; harmless where there is nothing."""
    for hooks in (
        shell.input_transformer_manager.token_transformers,
        shell.input_transformers_cleanup,
        getattr(shell.Completer, "custom_matchers", []),
    ):
        hooks[:] = [hook for hook in hooks if not hasattr(hook, _MARK)]


def _marked(hook: Any) -> Any:
    setattr(hook, _MARK, True)
    return hook


def forgiving(lines: list[str]) -> list[str]:
    """Understand two cells that IPython refuses: one line ``%%tao …``, and ``%tao …`` going on in indented lines."""
    if not any("tao" in line or "tlt" in line for line in lines[:1]):
        return lines
    magic = as_line_magic("".join(lines))
    return with_backslashes(lines) if magic is None else [magic]


def _shell_line(wanted: Callable[[], bool]) -> type:
    """Return the input transformer of ``!tao`` lines.

    It is one of IPython's token transformers, so that it finds ``!`` exactly where IPython itself does: at the
    beginning of a statement, indented or not, and never in a string, a ``%%`` cell or ``x = !…``.
    """

    class ShellLine(EscapedCommand):
        """``!tao ssd train …`` -> a call of ``%tao``."""

        # Before IPython's own transformer of the same lines, after its `…?`.
        priority = 9

        @classmethod
        def find(cls, tokens_by_line: Sequence[Sequence[Any]]) -> Any:
            if not wanted():
                return None
            for line in tokens_by_line:
                tokens = [token for token in line if token.type not in {tokenize.INDENT, tokenize.DEDENT}]
                # Python 3.11 has a token for the blank in `! tao`.
                names = [token.string for token in tokens[:4] if token.string.strip()]
                # The very first token, as with IPython: behind a stray bracket the indent is a token of its own.
                if tokens[:1] and tokens[0].string == "!" and names[1:2] in (["tao"], ["tlt"]):
                    return cls(tokens[0].start)
            return None

        def transform(self, lines: list[str]) -> list[str]:
            end = self.start_line
            # A blank behind the backslash is invisible and harmless.
            while end + 1 < len(lines) and lines[end].rstrip().endswith("\\"):
                end += 1
            line = assemble_continued_line(lines, (self.start_line, self.start_col), end)
            magic = as_magic(line)
            if magic is None:
                return list(super().transform(lines))
            indent = lines[self.start_line][: self.start_col]
            call = f"{indent}get_ipython().run_line_magic('tao', {magic!r})\n"
            # As many lines as before: tracebacks then show the lines that the person sees.
            blank = ["\n"] * (end - self.start_line)
            return [*lines[: self.start_line], call, *blank, *lines[end + 1 :]]

    return _marked(ShellLine)  # type: ignore[no-any-return]


def _matcher(shell: Any) -> Any:
    """Return the matcher of completions, in IPython's second form of them."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier=MATCHER, priority=1000)
    def match(context: Any) -> Any:
        from taomagic.launcher.completion import Facts, complete
        from taomagic.launcher.context import Context
        from taomagic.launcher.names import Names

        lines = context.full_text.split("\n")[: context.cursor_line + 1]
        if not any("tao" in line or "tlt" in line for line in lines):
            return {"completions": [], "suppress": False}
        text = "\n".join([*lines[:-1], lines[-1][: context.cursor_position]])
        try:
            facts = Facts(Names(shell.user_ns), Context.current(need_mounts=False))
        except (EnvironmentProblem, OSError):  # the folder is gone
            return {"completions": [], "suppress": False}
        found = complete(text, facts)
        if found is None:
            return {"completions": [], "suppress": False}
        return {
            "completions": [SimpleCompletion(text=word, type="param") for word in found.words],
            "matched_fragment": found.fragment,
            # Python names and file names would only bury these.
            "suppress": True,
            "ordered": True,
        }

    return _marked(match)
