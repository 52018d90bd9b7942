"""``python -m taomagic.engine <task> <sub-task> …``."""

from taomagic.engine.cli import main

raise SystemExit(main())
