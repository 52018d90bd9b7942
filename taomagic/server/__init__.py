"""What JupyterLab's sidebar and launcher talk to: an extension of Jupyter's own server.

It answers only behind Jupyter's authentication, authorisation and XSRF check, and shows nothing but the job records
of projects under the server's root folder. Jupyter loads it at its start, so importing this module imports nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["_jupyter_server_extension_points", "_load_jupyter_server_extension"]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Return where Jupyter finds the extension."""
    return [{"module": "taomagic.server"}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    """Add the routes to a starting server."""
    from taomagic.server.handlers import add_routes

    add_routes(server_app)
