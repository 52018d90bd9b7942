"""``python -m taomagic …`` is ``tao …``."""

from taomagic.cli import tao

raise SystemExit(tao())
