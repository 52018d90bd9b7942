"""``python -m taomagic.engine <task> <sub-task> …``."""

from taomagic.engine.cli import main
from taomagic.engine.signals import end_with

code = main()
end_with(code)
raise SystemExit(code)
