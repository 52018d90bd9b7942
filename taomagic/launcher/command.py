"""The grammar of TAO 3.x, 4.0 and 5.x/6.x command lines -> :class:`Command`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: What takes the place of a key on every screen and in every record.
MASK = "********"


@dataclass(frozen=True)
class Command:
    """One command: a task to run, or a control word.

    Parameters
    ----------
    action
        ``"run"`` for a task; otherwise the control word: ``info``, ``list``, ``stop``, ``attach``, ``logs``, ``samples``,
        ``help``.
    group
        ``"model"``, ``"dataset"`` or ``"deploy"``; empty for a control word.
    task
        The network, e.g. ``"ssd"``; for ``help`` what help is wanted for, or empty.
    subtask
        ``"train"``, ``"dataset_convert"``, …; always with underscores.
    args
        The words after the sub-task (or after the control word), expanded, as a list. May hold a key: show
        :meth:`masked`, never this.
    """

    action: str = "run"
    group: str = ""
    task: str = ""
    subtask: str = ""
    args: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the command is, in two words: ``ssd train``, ``deploy ssd gen_trt_engine``, ``list``."""
        if self.action != "run":
            return self.action
        group = (self.group,) if self.group == "deploy" else ()
        return " ".join((*group, self.task, self.subtask))

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command as words, without the leading ``tao``. May hold a key."""
        return (*self.label.split(), *self.args)

    def masked(self) -> str:
        """Return the command as a person would type it, the key replaced by stars."""
        return shlex.join(["tao", *self.label.split(), *mask_key(self.args)])

    def key(self) -> str | None:
        """Return the value of ``-k``/``--key``, or ``None`` where it isn't given."""
        return split_key(self.args)[1]

    def without_key(self) -> Command:
        """Return the same command without ``-k``/``--key`` and its value."""
        return replace(self, args=split_key(self.args)[0])

    def option(self, *flags: str) -> str | None:
        """Return the value of the first of ``flags`` that is given, as ``-e X``, ``--spec X`` or ``--spec=X``."""
        for index, word in enumerate(self.args):
            for flag in flags:
                if word == flag:
                    return self.args[index + 1] if index + 1 < len(self.args) else None
                if flag.startswith("--") and word.startswith(flag + "="):
                    return word.partition("=")[2]
        return None


def _key_form(word: str) -> str | None:
    """Tell how a word carries a key: ``"next"`` word, ``"equals"``, ``"joined"`` (``-kX``), or not at all."""
    name, equals, _ = word.partition("=")
    # argparse takes unique abbreviations: --k, --ke and --key all mean the key.
    if name in {"--key", "--ke", "--k"}:
        return "equals" if equals else "next"
    if word == "-k":
        return "next"
    return "joined" if word.startswith("-k") and len(word) > 2 else None


def split_key(args: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Return the words without the key, and the key (``None`` where there is none; the last one given counts)."""
    kept: list[str] = []
    key: str | None = None
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form == "next":
            key = next(rest, "")
        elif form == "equals":
            key = word.partition("=")[2]
        elif form == "joined":
            key = word[2:].removeprefix("=")
        else:
            kept.append(word)
    return tuple(kept), key


def mask_key(args: Sequence[str]) -> tuple[str, ...]:
    """Return the words with the value of ``-k``/``--key`` replaced by stars."""
    shown: list[str] = []
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form is None:
            shown.append(word)
        elif form == "next":
            shown += [word, MASK] if next(rest, None) is not None else [word]
        else:
            shown.append(f"{word.partition('=')[0]}={MASK}" if form == "equals" else f"-k{MASK}")
    return tuple(shown)
