"""The routes below ``<base url>/taomagic/api``: for known and authorised people; a POST wants the XSRF token too.

::

    GET  notebooks          the kinds of notebooks there are
    POST notebooks          {"kind", "folder", "language"} -> a new notebook
    GET  jobs               running and recent jobs
    GET  jobs/<id>          all about one
    GET  jobs/<id>/log      a piece of its log; ?offset=…&limit=… in bytes
    POST jobs/<id>/stop     stop it
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from taomagic.errors import TaoError, UsageProblem
from taomagic.server import notebooks
from taomagic.server.log import USUAL, read_piece
from taomagic.server.places import JOB_ID, Root
from taomagic.server.shelf import JobShelf
from taomagic.view.texts import tr

P = ParamSpec("P")
T = TypeVar("T")


def add_routes(server_app: Any) -> None:
    """Add the routes to a Jupyter server (``jupyter_server.serverapp.ServerApp``)."""
    root = Root(Path(server_app.contents_manager.root_dir or server_app.root_dir))
    shared = {"root": root, "shelf": JobShelf(root)}
    base = url_path_join(server_app.web_app.settings["base_url"], "taomagic", "api")
    job = rf"jobs/({JOB_ID.pattern})"
    routes: list[tuple[str, type[_Handler], dict[str, Any]]] = [
        (url_path_join(base, "notebooks"), Notebooks, shared),
        (url_path_join(base, "jobs"), Jobs, shared),
        (url_path_join(base, job), OneJob, shared),
        (url_path_join(base, job, "log"), Log, shared),
        (url_path_join(base, job, "stop"), Stop, shared),
    ]
    server_app.web_app.add_handlers(".*$", routes)


class _Handler(APIHandler):
    """What the routes have in common."""

    #: What an authoriser of Jupyter's is asked about; reading is ``read``, a POST is ``write``.
    auth_resource = "taomagic"
    #: Whether a request counts as work. It doesn't: a page that is left open must not keep a hub from
    #: shutting the server down.
    _track_activity = False

    root: Root
    shelf: JobShelf

    def initialize(self, root: Root, shelf: JobShelf) -> None:
        """Take what the routes share."""
        self.root = root
        self.shelf = shelf

    async def apart(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something that may wait for a disk in a thread, and turn our errors into answers.

        Raises
        ------
        tornado.web.HTTPError
            404 for what isn't there, 409 for what can't be written.
        """
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except UsageProblem as problem:
            raise web.HTTPError(404, self.told(problem)) from None
        except TaoError as problem:
            raise web.HTTPError(409, self.told(problem)) from None

    def said(self, text: str) -> str:
        """Return a text of ours in the page's language, which the page names in the query."""
        return tr(text, self.get_query_argument("lang", "en"))

    def told(self, problem: TaoError) -> str:
        """Return what went wrong in one line, without the paths of this machine."""
        return self.said(f"{problem.message} {problem.hint}".strip())

    def number(self, name: str, default: int | None) -> int | None:
        """Return a whole number of the query, 0 or more.

        Raises
        ------
        tornado.web.HTTPError
            400: it isn't one.
        """
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise web.HTTPError(400, f"{name} must be a whole number of bytes.")
        return int(text)


class Notebooks(_Handler):
    """The notebooks that the launcher offers."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the kinds of notebooks, and the language that ``TAO_LANG`` asks for."""
        self.finish({"kinds": await self.apart(notebooks.kinds), "language": os.environ.get("TAO_LANG", "")})

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create one in a folder of the file browser."""
        wish = self.get_json_body()
        names = ("kind", "folder", "language")
        if not isinstance(wish, dict) or not all(isinstance(wish.get(name), str) for name in names):
            raise web.HTTPError(400, f"Wanted: an object with the texts {', '.join(names)}.")
        if wish["language"] not in notebooks.LANGUAGES:
            raise web.HTTPError(400, f"The language is one of {', '.join(notebooks.LANGUAGES)}.")
        made = await self.apart(notebooks.create, self.root, wish["kind"], wish["folder"], wish["language"])
        self.set_status(201)
        self.finish(
            {
                "path": self.root.contents_path(made.notebook),
                "specs": [self.root.contents_path(path) for path in made.specs],
            }
        )


class Jobs(_Handler):
    """The list of jobs."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the running jobs and the latest finished ones."""
        listing = await self.apart(self.shelf.listing)
        for job in listing["jobs"]:
            job["stop_problem"] = self.said(job["stop_problem"])
        # A page that watches a running job is at work: the job would end together with the server's machine.
        self._track_activity = any(job["state"] == "running" for job in listing["jobs"])
        self.finish(listing)


class OneJob(_Handler):
    """A job."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with all that is known about it."""
        details = await self.apart(self.shelf.details, job_id)
        for name in ("problem", "stop_problem"):
            details[name] = self.said(details[name])
        for name in ("hints", "notes"):
            details[name] = [self.said(text) for text in details[name]]
        self.finish(details)


class Log(_Handler):
    """A job's log."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with a piece of it: its end, unless the query says where to begin."""
        offset, limit = self.number("offset", None), self.number("limit", USUAL)

        def read() -> dict[str, Any]:
            path, whole = self.shelf.log(job_id)
            return {**asdict(read_piece(path, offset, limit or USUAL, whole=whole)), "finished": whole}

        self.finish(await self.apart(read))


class Stop(_Handler):
    """The end of a job."""

    @web.authenticated
    @authorized
    async def post(self, job_id: str) -> None:
        """Begin to stop it."""
        self.set_status(202)
        self.finish(await self.apart(self.shelf.stop, job_id))
