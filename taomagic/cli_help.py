"""What `tao help` prints, and `tao` without a word."""

from __future__ import annotations

from taomagic.launcher import catalog
from taomagic.launcher.command import Command
from taomagic.view.texts import tr

_DESCRIPTION = "Launcher for TAO Toolkit."
_CONTROL_HELP = {
    "info": (
        "info [--verbose] [--release NAME]",
        "the TAO release: tasks, images, what runs without a container",
    ),
    "list": ("list", "the jobs that run, and the latest ones of this project"),
    "stop": ("stop ID… | --container_id ID… | --all", "end jobs"),
    "attach": ("attach [ID]", "follow a job, from its first line; Ctrl-C only stops following"),
    "logs": ("logs [ID]", "print the whole log of a job"),
    "samples": (
        "samples create|specs|notebook|weights …",
        "sample data, specs, notebooks, weights to learn with",
    ),
    "key": ("key check FILE [-k KEY]", "which kind of model file it is, and whether the key opens it"),
    "device": (
        "device bundle MODEL -o FOLDER …",
        "a folder that runs a model on a Jetson, or without taomagic",
    ),
    "notebook": (
        "notebook run FILE.ipynb …",
        "execute a notebook headless, and tell how each cell went",
    ),
    "setup": (
        "setup notebooks [--undo] [--profile NAME]",
        "make NVIDIA's notebooks run in JupyterLab as they are",
    ),
    "help": ("help [TASK [SUB-TASK]]", "this text, or the arguments of a task"),
}


def overview(prog: str) -> str:
    """Return what `tao` (or `tao-deploy`) says when it is called without a word."""
    chosen = catalog.release()
    group = "deploy" if prog == "tao-deploy" else ""
    place = "" if group else "[model|dataset|deploy] "
    lines = [f"usage: {prog} [OPTION …] {place}TASK SUB-TASK … | {prog} CONTROL-WORD …", "", _DESCRIPTION, ""]
    # The sections are called as in the help of NVIDIA's launchers.
    if chosen.grouped and not group:
        lines += ["task_groups:"]
        lines += [f"  {name:<10}{', '.join(_tasks(chosen, name))}" for name in catalog.GROUPS]
    else:
        lines += ["tasks:", f"  {', '.join(_tasks(chosen, group))}"]
    lines = [part for line in lines for part in _wrapped(line)]
    if not group:
        lines += ["", "tasks that run here, without a container:"]
        ours = {task: ", ".join(names) for task, names in catalog.engine_tasks().items()}
        ours |= {
            f"deploy {task}": ", ".join(catalog.engine_subtasks("deploy", task))
            for task in catalog.engine_tasks()
        }
        widest = max(map(len, ours)) + 2
        for task, names in ours.items():
            lines += _wrapped(f"  {task:<{widest}}{names}", widest + 2)
    lines += ["", "control words:"]
    width = max(len(usage) for usage, _ in _CONTROL_HELP.values()) + 2
    lines += [f"  {usage:<{width}}{text}" for usage, text in _CONTROL_HELP.values()]
    lines += ["", "options, anywhere:"]
    lines += [f"  {'--background':<{width}}return at once; the job goes on"]
    lines += [f"  {'--raw':<{width}}print the log as it is, in place of a line for each epoch"]
    lines += [f"  {'--backend auto|process|docker':<{width}}where to run; also TAOMAGIC_BACKEND"]
    lines += [f"  {'--in-process':<{width}}run the embedded engine in this process, for breakpoint() and pdb"]
    lines += ["", "options, before the task:"]
    lines += [f"  {'--release NAME':<{width}}the TAO release, now {chosen.name}; also TAOMAGIC_RELEASE"]
    return "\n".join([*lines, "", f"`{prog} TASK --help` and `{prog} TASK SUB-TASK --help` tell more."])


def _tasks(chosen: catalog.Release, group: str) -> list[str]:
    """Return the tasks of a group of a release, sorted; without a group those of all that isn't deployment."""
    images = [
        image for image in chosen.images if (image.group == group if group else image.group != "deploy")
    ]
    return sorted({task for image in images for task in image.tasks})


def _wrapped(line: str, indent: int = 0) -> list[str]:
    import textwrap

    indent = indent or (12 if line.startswith(tuple(f"  {name} " for name in catalog.GROUPS)) else 2)
    return textwrap.wrap(line, 110, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]


def print_help(wanted: Command) -> None:
    """Print the help that is wanted: on a control word, a task, a group, or on everything."""
    if wanted.args:
        usage, text = _CONTROL_HELP[wanted.args[0]]
        told = tr(text)
        told = f"{told[0].upper()}{told[1:]}." if told == text else f"{told}。"
        print(tr(f"usage: tao {usage}") + f"\n\n{told}")
    elif wanted.task and catalog.engine_subtasks(wanted.group, wanted.task):
        from taomagic.spec.arguments import help_text

        print(help_text(wanted.engine_task, wanted.subtask or None))
    elif wanted.task:
        words = catalog.subtasks(wanted.group, wanted.task)
        image = catalog.release().require_image(wanted.group, wanted.task)
        print(tr(f"{wanted.task} runs in NVIDIA's container {image.name}, not here."))
        if words:
            print(tr(f"Sub-tasks: {', '.join(words)}"))
    elif wanted.group:
        chosen = catalog.release()
        grouped = chosen.grouped or wanted.group == "deploy"
        names = ", ".join(_tasks(chosen, wanted.group if grouped else "")) or "none"
        told = f"Tasks of the group {wanted.group}" if grouped else "It has no groups; its tasks"
        print(tr(f"TAO {chosen.name}. {told}: {names}"))
    else:
        print(tr(overview("tao")))
