"""Lets the `tao` command start without modules that the standard library imports and `tao` never uses.

``dataclasses`` imports ``inspect`` (with ``ast``, ``dis``, ``tokenize``), which it needs only for classes without a
docstring; ``pathlib`` imports ``urllib.parse`` and that ``ipaddress``, for URLs with brackets. Together they are a
fifth of the start of `tao`. Here, stand-ins take their place, which load the module at the first use of anything in it.

Imported by :mod:`taomagic.cli`, first of all. Where a module has been loaded already, as in a notebook's kernel,
nothing happens to it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_SELDOM_USED = ("inspect", "ipaddress")


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # What looks at all modules (for __file__, __path__ …) must not load them.
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)
        self.__dict__.update({key: value for key, value in vars(module).items() if not key.startswith("__")})
        return getattr(module, name)


def defer(*names: str) -> None:
    """Put a stand-in in place of each module that isn't loaded yet."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = _StandIn(name)


defer(*_SELDOM_USED)
