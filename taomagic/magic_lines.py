"""What the line of a magic says: commands with our own options, the arguments of ``%tao_env`` and ``%%tao_spec``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicHelpFormatter

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import catalog
from taomagic.launcher.backends import wished
from taomagic.launcher.cells import Names, Stage, split_words
from taomagic.launcher.command import CONTROL_WORDS, Command, parse_command
from taomagic.launcher.options import Options, check_in_process, language
from taomagic.spec.help_format import HelpFormat

#: What ``--key`` holds when it stands alone.
ASK = "\0ask"


def read_stage(stage: Stage, options: Options, names: Names) -> tuple[Command, Options]:
    """Return the command that a stage means, and the options that count for it."""
    from taomagic.cli import own_options, release_chosen

    words = split_words(stage.text, names, shell=stage.shell)
    if stage.shell:
        # What was written for a shell has our options where a shell's command takes them.
        given, words = own_options(words)
        options = replace(
            options,
            background=options.background or "background" in given,
            raw=options.raw or "raw" in given,
            in_process=options.in_process or "in-process" in given,
            backend=wished(given["backend"]) if "backend" in given else options.backend,
            release=given.get("release", options.release),
        )
    elif words[-1:] == ["--background"]:
        options, words = replace(options, background=True), words[:-1]
    check_in_process(options.in_process, background=options.background, backend=options.backend)
    if options.volumes and words[:1] and words[0] in CONTROL_WORDS:
        raise UsageProblem(f"--volume means nothing for {words[0]}.", hint=f"%tao {words[0]}")
    if options.in_process and words[:1] and words[0] in CONTROL_WORDS:
        raise UsageProblem(f"--in-process means nothing for {words[0]}.", hint=f"%tao {words[0]}")
    for value in options.volumes:
        words += ["--volume", *split_words(value, names, shell=stage.shell)]
    with release_chosen(options.release):
        return parse_command(words), options


class _Help(HelpFormat, MagicHelpFormatter):
    """The help of a magic, in the reader's language."""

    add_usage = MagicHelpFormatter.add_usage


def parsed(magic: Any, words: Sequence[str]) -> Any:
    """Return the arguments of a magic, or ``None`` after its help.

    Raises
    ------
    UsageProblem
        An argument is unknown, missing or wrong.
    """
    parser = magic.parser
    name = f"%{parser.prog}"  # that of a cell magic begins with a percent sign already
    if {"-h", "--help"} & set(words):
        parser.formatter_class = _Help
        print(parser.format_help().removeprefix("::\n\n"))
        return None
    known = [option for action in parser._actions for option in action.option_strings]
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    strange = next((flag for flag in flags if not any(option.startswith(flag) for option in known)), None)
    if strange is not None:
        # The flag alone: what stands behind it may be a key.
        raise UsageProblem(
            f"{name} has no option {strange}.",
            hint=f"{catalog.nearest(strange, known)}Options: {', '.join(known) or 'none'}.",
        )
    try:
        return parser.parse_args(list(words))
    except UsageError as error:
        raise UsageProblem(
            f"{str(error)[:1].upper()}{str(error)[1:]}.",
            where=name,
            hint=f"{name}? tells more.",
        ) from None


def settings_of(given: Any) -> dict[str, str]:
    """Return the environment variables of ``--backend``, ``--release`` and ``--lang``."""
    found: dict[str, str] = {}
    if given.backend:
        found["TAOMAGIC_BACKEND"] = wished(given.backend)
    if given.release:
        found["TAOMAGIC_RELEASE"] = catalog.release_name(given.release)
    if given.lang:
        found["TAO_LANG"] = language(given.lang)
    return found


def overrides_of(given: Any) -> dict[str, str]:
    """Return the variables that the arguments of ``%tao_env`` set."""
    key = _ask_key() if given.key == ASK else given.key
    values = {
        "LOCAL_PROJECT_DIR": given.project_dir,
        "LOCAL_DATA_DIR": given.data_dir,
        "KEY": key,
        "NUM_GPUS": given.gpus,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _ask_key() -> str:
    """Ask for the key of the model files."""
    from taomagic.view.ask import ask_secret

    key = ask_secret("Key of the model files: ")
    if not key:
        raise EnvironmentProblem(
            "No key was given.",
            hint="Where nobody can be asked, set it beforehand: %env KEY=…, or write it behind --key.",
        )
    return key
