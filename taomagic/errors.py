"""Every error that taomagic raises on purpose.

::

    TaoError
    ├── UsageProblem         the command, the magic line or an argument is wrong
    ├── SpecProblem          an experiment file is wrong (file, line, field, value, what is allowed)
    ├── EnvironmentProblem   a variable, the mount map, a package or the container engine is missing or wrong
    ├── DataProblem          an image, a label, a record or a whole data set is unusable
    ├── ModelFileProblem     a model file is missing, damaged, of another kind, or the key is wrong
    ├── StageFailed          a command ended with an error (exit code, log, last relevant lines)
    └── StageInterrupted     a command was stopped before its end

Each one says what is wrong, where, and, in ``hint``, what to do about it. IPython draws them without a Python
traceback, because the person who reads them looks for the mistake in a spec or a path, not in our code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: Puts our texts into the reader's language when they are shown. Who knows the reader sets it; attributes of errors,
#: and what is written to logs, stay English.
translate: Callable[[str], str] = str


class TaoError(Exception):
    """Something went wrong that a person can act on.

    Parameters
    ----------
    message
        What is wrong, with the offending name or value.
    hint
        What to do about it, in one sentence.
    where
        The place: ``file:line``, a path, a variable, a command.
    """

    #: The word that opens the message on screen.
    title = "Error"

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        """Return place, message and hint on one to three lines."""
        message = translate(self.message)
        head = f"{translate(self.where)}: {message}" if self.where else message
        return f"{head}\n{translate(f'Hint: {self.hint}')}" if self.hint else head

    def _render_traceback_(self) -> list[str]:
        """Return what IPython prints in place of a traceback."""
        return f"{translate(self.title)}: {self}".splitlines()


class UsageProblem(TaoError):
    """The command, the magic line or one of the arguments can't be understood or carried out."""

    title = "Usage"


class SpecProblem(TaoError):
    """An experiment file can't be read, or a value in it is not allowed.

    Parameters
    ----------
    message, hint
        As for :class:`TaoError`.
    path
        The spec file as the person named it.
    line
        1-based line in that file, or ``None`` where the problem is something missing.
    """

    title = "Spec"

    def __init__(
        self, message: str, *, path: str | Path = "", line: int | None = None, hint: str = ""
    ) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(message, hint=hint, where=where)
        self.path = str(path)
        self.line = line


class EnvironmentProblem(TaoError):
    """A variable, the mount map, an installed package or the container engine is missing or wrong."""

    title = "Environment"


class DataProblem(TaoError):
    """An image, a label file, a TFRecord or a whole data set can't be used."""

    title = "Data"


class ModelFileProblem(TaoError):
    """A model file is missing, damaged, of the wrong kind, or encrypted with another key."""

    title = "Model file"


class StageFailed(TaoError):
    """A TAO command ended with an error.

    Parameters
    ----------
    message, hint
        As for :class:`TaoError`.
    exit_code
        The exit code of the command; negative for a signal, ``None`` if it is unknown.
    log_path
        The full log on the host.
    tail
        The last relevant lines of the log.
    """

    title = "Stage failed"

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        log_path: Path | None = None,
        tail: tuple[str, ...] = (),
        hint: str = "",
        where: str = "",
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.exit_code = exit_code
        self.log_path = log_path
        self.tail = tail

    def _render_traceback_(self) -> list[str]:
        lines = super()._render_traceback_()
        if self.tail:
            lines += ["", *(f"  │ {line}" for line in self.tail)]
        if self.exit_code is not None:
            lines.append(translate(f"Exit code: {self.exit_code}"))
        if self.log_path is not None:
            lines.append(translate(f"Full log: {self.log_path}"))
        return lines


class StageInterrupted(StageFailed):
    """A TAO command was stopped, by an interrupted cell, ``tao stop`` or a signal."""

    title = "Stage interrupted"
