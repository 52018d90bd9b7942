from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_starts_without_them() -> None:
    program = "import sys, taomagic.cli; print('ast' in sys.modules, 'dis' in sys.modules)"
    # From Python 3.13 on, dataclasses does use inspect, which costs time and nothing else.
    assert run(program) == ("False False" if sys.version_info < (3, 13) else "True True")


def test_they_are_loaded_when_something_in_them_is_used() -> None:
    print_all = "print(inspect.signature(lambda a, b=1: 0), ipaddress.ip_address('::1').version)"
    assert run(f"import taomagic.cli, inspect, ipaddress; {print_all}") == "(a, b=1) 6"
    assert run(
        f"import taomagic.cli; import inspect; from inspect import signature; import ipaddress; {print_all}"
    )
    other = "import taomagic.cli, urllib.parse; print(urllib.parse.urlsplit('http://[::1]:80/x').port)"
    assert run(other) == "80"


def test_classes_without_a_docstring_get_one_all_the_same() -> None:
    point = "dataclasses.make_dataclass('Point', ['x', ('y', int, 2)])"
    assert (
        run(f"import taomagic.cli, dataclasses; print({point}.__doc__)")
        == "Point(x: 'typing.Any', y: int = 2)"
    )


def test_what_looks_at_all_modules_loads_nothing() -> None:
    program = (
        "import sys, taomagic.cli;"
        "[getattr(each, '__file__', None) for each in list(sys.modules.values())];"
        "print('ast' in sys.modules)"
    )
    if sys.version_info < (3, 13):
        assert run(program) == "False"


def test_modules_that_are_there_already_stay() -> None:
    assert (
        run("import inspect; before = inspect; import taomagic.cli, inspect; print(inspect is before)")
        == "True"
    )
