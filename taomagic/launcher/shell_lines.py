"""``!tao …`` lines, as NVIDIA's notebooks have them: which ones a magic can carry out, and which need a shell."""

from __future__ import annotations

import re

#: The launcher's names: of TAO, of TAO 4.0's engine builder, and of TLT 3.0.
LAUNCHERS = ("tao", "tao-deploy", "tlt")
_LINE = re.compile(r"!\s*(?P<name>tao-deploy|tao|tlt)(?=\s|$)\s*(?P<rest>.*)", re.DOTALL)
_WHOLE_CELL = re.compile(r"\s*%(%tao[ \t]+\S.*?)\s*\Z")
_FIRST = re.compile(r"[ \t]*(?:[\w.]+\s*=\s*)?(?:%tao|!\s*(?:tao|tao-deploy|tlt))[ \t]")
_FLAGS = re.compile(r"[ \t]+--?[A-Za-z]")
# What a shell does and a magic doesn't: other commands, redirections, globs, its own variables, ${NAME:-default}.
_OPERATORS = frozenset("|&;<>()`")
_GLOBS = frozenset("*?[")
_SPECIAL = re.compile(r"\$(?:[(0-9@*#?!'\"-]|\{(?![A-Za-z_]\w*\}))")
_IN_QUOTES = re.compile(r"`|\$(?:[(0-9@*#?!-]|\{(?![A-Za-z_]\w*\}))")


def as_magic(line: str) -> str | None:
    """Return what ``%tao`` is given for a line, or ``None`` where the line stays a shell's.

    Parameters
    ----------
    line
        A line of a cell from its ``!`` on, without indentation; lines that a backslash continued are joined.

    Returns
    -------
    str or None
        The line itself, which says that its words follow the rules of shell lines. ``None`` if it doesn't begin with
        the launcher, or needs a shell: pipes, redirections, ``;``, ``&&``, ``$(…)``, globs and their like.

    Examples
    --------
    >>> as_magic("!tao ssd train -e $SPECS_DIR/ssd.txt")
    '!tao ssd train -e $SPECS_DIR/ssd.txt'
    >>> as_magic("!tao ssd train -e ssd.txt | tee log.txt")
    """
    match = _LINE.match(line)
    if match is None or needs_shell(match["rest"]):
        return None
    rest = match["rest"].strip()
    if rest in {"--version", "-V"}:
        return None
    # The launcher alone shows its help.
    return f"!{match['name']} {rest or '--help'}"


def as_line_magic(cell: str) -> str | None:
    """Return a cell that holds nothing but one line ``%%tao …`` as the line magic that is meant; ``None`` for others.

    IPython refuses a cell magic without a body.
    """
    match = _WHOLE_CELL.fullmatch(cell)
    return f"{match[1]}\n" if match and "\n" not in match[1] else None


def with_backslashes(lines: list[str]) -> list[str]:
    """Return a cell whose first command goes on in indented lines of flags, with the backslashes that these need.

    ``%tao`` where ``%%tao`` was meant; Python has no other meaning for such lines.
    """
    if not lines or not _FIRST.match(lines[0]):
        return lines
    result = list(lines)
    for number in range(1, len(lines)):
        before = result[number - 1].rstrip()
        if not _FLAGS.match(lines[number]) or "#" in before:
            break
        result[number - 1] = before + ("\n" if before.endswith("\\") else " \\\n")
    return result


def needs_shell(text: str) -> bool:
    """Tell whether a command line has something that only a shell understands, outside quotes and ``{…}``."""
    position, at_word_start, depth, setting = 0, True, 0, False
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 2
        elif char in "'\"":
            end = _closing(text, position)
            if end < 0:
                return False  # a mistake, which the magic names
            if char == '"' and not depth and _IN_QUOTES.search(text, position, end):
                return True
            position = end + 1
        elif depth or char == "{":
            # What stands in braces is Python.
            depth += {"{": 1, "}": -1}.get(char, 0)
            position += 1
        elif char == "#" and at_word_start:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif char in _OPERATORS or _SPECIAL.match(text, position):
            return True
        elif _other_home(text, position, at_word_start) or (char in _GLOBS and not setting):
            return True  # train.gpu_ids=[0,1] could only mean files of strange names
        elif char == "$" and text[position + 1 : position + 2] == "{":
            position = text.index("}", position)
        else:
            position += 1
        at_word_start = char.isspace()
        setting = not at_word_start and (setting or char == "=")
    return False


def _closing(text: str, start: int) -> int:
    """Return where the quote that opens at ``start`` closes, or -1."""
    mark, position = text[start], start + 1
    while position < len(text):
        if text[position] == "\\" and mark == '"':
            position += 1
        elif text[position] == mark:
            return position
        position += 1
    return -1


def _other_home(text: str, position: int, at_word_start: bool) -> bool:
    """Tell whether ``~name`` begins here; ``~`` and ``~/…`` are understood."""
    return at_word_start and text[position] == "~" and text[position + 1 : position + 2] not in {"", "/", " "}
