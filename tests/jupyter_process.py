"""A Jupyter server as a process of its own, on a free port of this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

#: How long a server may take to answer.
_PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def jupyter(
    module: str,
    *options: str,
    port: int,
    root: Path,
    base: str,
    token: str,
    log: Path,
    env: Mapping[str, str],
) -> Iterator[None]:
    """Run a server as long as the block; the block begins when it listens.

    Parameters
    ----------
    module
        What is run: ``jupyterlab``, ``notebook``, ``jupyter_server``.
    options
        Further ones.
    port
        Where it listens.
    root
        The folder that it serves.
    base
        The base URL, as behind a hub.
    token
        Who has it may come in.
    log
        Where its output goes; its folder is the server's.
    env
        All its variables.
    """
    command = [
        *(sys.executable, "-m", module, "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={base}"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
        *options,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-3000:])
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
