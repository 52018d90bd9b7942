"""Our texts in Chinese: the catalogue is complete and true to its sources, and is applied to nothing else."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic import errors
from taomagic.errors import SpecProblem, StageFailed, TaoError, UsageProblem
from taomagic.launcher.progress import Snapshot
from taomagic.view import static, summary, texts
from taomagic.view.draw_bars import precision_bars
from taomagic.view.format import display_width
from taomagic.view.locale import extract
from taomagic.view.locale.catalogue import CHINESE, Catalogue, Template, entries, joined, places, read
from taomagic.view.panel import words
from taomagic.view.panel_texts import TEXTS
from taomagic.view.tables import Table
from taomagic.view.texts import language, set_page_language, tr, use_terminal_language

KNOWN = entries(CHINESE.read_text("utf-8"))
WITH_PLACES = sorted(source for source in KNOWN if places(source))


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    return extract.sources()


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAO_LANG", "zh")
    monkeypatch.setattr(errors, "translate", tr)


@pytest.fixture(autouse=True)
def _wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_wishes", {"page": "", "terminal": ""})


# ---------------------------------------------------------------- the catalogue and the source


def test_every_text_of_the_source_has_a_translation(found: dict[str, set[str]]) -> None:
    hint = "Translate them in view/locale/zh_CN.po; what nobody reads belongs in not_texts.txt."
    assert not extract.lacking(found, KNOWN), hint


def test_every_translation_has_a_text_in_the_source(found: dict[str, set[str]]) -> None:
    assert not extract.left_over(found, KNOWN)


def test_the_catalogue_is_read_whole_and_has_no_text_twice() -> None:
    lines = CHINESE.read_text("utf-8").splitlines()
    # The first entry is the file's own heading.
    assert sum(line.startswith("msgid ") for line in lines) == len(KNOWN) + 1
    assert sum(line.startswith("msgstr ") for line in lines) == len(KNOWN) + 1
    assert entries(extract.in_order(extract.sources(), KNOWN)) == KNOWN


def test_what_is_no_text_is_really_in_the_source() -> None:
    listed = extract.not_texts()
    assert len(listed) == len(set(listed))
    assert not extract.unused_not_texts()


def test_the_search_finds_what_a_person_reads_and_nothing_else() -> None:
    source = '''
"""Not this docstring."""
import re
def work(name, count, error):
    """Nor this one."""
    if name == "a word and another":
        raise UsageProblem(f"There is no {name!r}.", hint="Write one.")
    print(f"{count} file{'s' if count > 1 else ''} " + "left")
    pattern = re.compile("some words and more")
    said = "yes indeed" if error else "certainly not"
    style = tag("div", name, style="a word: another")
    return {"two words": f"{len(name)} left"}, "car"
'''
    assert extract.templates(source) == {
        "There is no {name}.",
        "Write one.",
        "{count} file left",
        "{count} files left",
        "yes indeed",
        "certainly not",
        "{name} left",
    }


def test_a_translation_has_the_places_of_its_text() -> None:
    assert not [source for source, said in KNOWN.items() if sorted(places(said)) != sorted(places(source))]


_LOOSE = re.compile("[\u4e00-\u9fff](?:[,;:?!](?![\\w/])|\\.(?!\\w)|[A-Za-z0-9])|[A-Za-z0-9][\u4e00-\u9fff]")


def test_chinese_has_its_own_punctuation_and_blanks_around_latin_words() -> None:
    assert not [said for said in KNOWN.values() if _LOOSE.search(said)]
    assert not [said for source, said in KNOWN.items() if "  " in said.strip() and "  " not in source]


# ---------------------------------------------------------------- from a finished text to its translation


def test_a_text_made_from_any_template_is_translated() -> None:
    wrong = {}
    for source, target in KNOWN.items():
        values = {name: f"v{number}" for number, name in enumerate(places(source))}
        said = tr(Template.of(source).filled(values), "zh")
        # A text that is Chinese already stays as it is.
        as_meant = said == Template.of(target).filled(values) or _more_special(source, values, said)
        if not as_meant or tr(said, "zh") != said:
            wrong[source] = said
    assert not wrong


def _more_special(source: str, values: dict[str, str], said: str) -> bool:
    """Tell whether a template with longer fixed parts, or one of the same shape, fits the same text."""
    text = Template.of(source).filled(values)
    size = sum(map(len, Template.of(source).fixed))
    rivals = (each for each in KNOWN if each != source and Template.of(each).values(text) is not None)
    return any(sum(map(len, Template.of(each).fixed)) >= size for each in rivals) and all(
        value in said for value in values.values()
    )


NAMES = st.text(string.ascii_letters + string.digits + "/_-.测试", min_size=1, max_size=12).filter(
    lambda name: any(map(str.isdigit, name)) and not name.endswith((".", "-"))
)


@given(st.data())
def test_whatever_stands_in_the_places_comes_through_unchanged(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(WITH_PLACES))
    values = {name: data.draw(NAMES) for name in places(source)}
    said = tr(Template.of(source).filled(values), "zh")
    assert all(value in said for value in values.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Did you mean train? Sub-tasks: prune, train.", "您是不是想写 train？可用的子任务：prune, train。"),
        ("There is no such experiment file.", "没有这个 spec 文件。"),
        (
            "37% · epoch 3 of 8 · step 4 of 25 · 2 min 05 s left",
            "37% · epoch 3 / 8 · 第 4 / 25 步 · 剩余 2 分 05 秒",
        ),
        ("/a/b.txt:14: unknown field 'x' in the file's top level", "/a/b.txt:14: 文件的最外层里没有字段 'x'"),
        ("✗ the disk is full", "✗ 磁盘已满"),
        ("  Files written:", "  写出的文件："),
        ("Argument --gpus: invalid int value: 'x'.", "参数 --gpus：'x' 不是整数。"),
        ("  … 17 more lines like this", "  … 还有 17 行类似的内容"),
        ("one\nthe disk is full\ntwo", "one\n磁盘已满\ntwo"),
        (
            "  list       the jobs that run, and the latest ones of this project",
            "  list       正在运行的任务，以及本项目最近的任务",
        ),
        ("The mount map can't be read: Permission denied.", "无法读取映射文件：权限不够。"),
    ],
)
def test_texts_are_put_together_as_the_code_puts_them_together(text: str, said: str) -> None:
    assert tr(text, "zh") == said


@pytest.mark.parametrize(
    "text",
    [
        "tao ssd train -e /workspace/tao-experiments/specs/ssd.txt -r /data/my results -k ********",
        "Error response from daemon: manifest for nvcr.io/nvidia/tao:9 of the registry left",
        "car",
        "traffic light",
        "2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] root 42: Building model of 3 parts",
        "RuntimeError: shape '[2, 3]' is invalid for input of size 5",
        "",
        " · ",
        "Not one of ours: an unknown sentence. Another one, of nobody; really?",
    ],
)
def test_what_is_not_ours_stays_as_it_is(text: str) -> None:
    assert tr(text, "zh") == text


def test_pieces_meet_with_a_blank_between_ideographs_and_latin_letters_only() -> None:
    assert joined("没有这个 ", "模型") == "没有这个模型"
    assert joined("没有这个", "spec 文件") == "没有这个 spec 文件"
    assert joined("提示：", "abc") == "提示：abc"
    assert joined("a ", "b") == "a b"


def test_a_template_of_one_word_needs_numbers_in_its_places() -> None:
    small = Catalogue({"{done} of {total}": "{done} / {total}"})
    assert small.translate("3 of 8") == "3 / 8"
    assert small.translate("manifest of foo") == "manifest of foo"


# ---------------------------------------------------------------- which language


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"TAO_LANG": "zh"}, "zh"),
        ({"TAO_LANG": "zh_CN"}, "zh"),
        ({"TAO_LANG": "zh-Hans"}, "zh"),
        ({"TAO_LANG": "ZH-cn"}, "zh"),
        ({"TAO_LANG": "en"}, "en"),
        ({"TAO_LANG": "de"}, "en"),
        ({"TAO_LANG": ""}, "en"),
    ],
)
def test_tao_lang_chooses(environ: dict[str, str], expected: str) -> None:
    assert language(environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_CN", "LANG": "C"}, "zh"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh"),
        ({"LC_ALL": "C.UTF-8", "LANGUAGE": "zh_CN"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "TAO_LANG": "en"}, "en"),
        ({}, "en"),
    ],
)
def test_a_terminal_has_the_language_of_its_locale(environ: dict[str, str], expected: str) -> None:
    use_terminal_language(environ)
    assert language(environ) == expected


def test_the_page_chooses_where_tao_lang_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAO_LANG", raising=False)
    assert set_page_language("zh-CN")
    assert not set_page_language("zh-CN"), "It is the same as before."
    assert tr("the disk is full") == "磁盘已满"
    monkeypatch.setenv("TAO_LANG", "en")
    assert tr("the disk is full") == "the disk is full"
    assert not set_page_language({"not": "a name"})


def test_english_loads_no_catalogue(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom taomagic import cli\ncli.tao(['nonsense'])\n"
        "sys.exit('taomagic.view.locale.catalogue' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=_environ(tmp_path), check=False, capture_output=True
    )
    assert ended.returncode == 0


def test_the_catalogue_is_read_in_no_time() -> None:
    def cost() -> float:
        began = time.process_time()
        read().translate("Did you mean x? Valid flags: a, b")
        return time.process_time() - began

    assert min(cost() for _ in range(5)) < 0.02


# ---------------------------------------------------------------- where a person reads it


def _environ(home: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(home), "LC_ALL": "C.UTF-8", **more}


@pytest.mark.parametrize(
    "environ", [{"TAO_LANG": "zh"}, {"LC_ALL": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8"}]
)
def test_the_command_line_speaks_chinese(tmp_path: Path, environ: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "taomagic", "ssd", "trian"],
        env=_environ(tmp_path, **environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 2
    assert "ssd 没有子任务“trian”。\n提示：您是不是想写 train？可用的子任务：" in ended.stderr


def test_the_help_of_a_command_is_chinese_and_fits_the_terminal(tmp_path: Path) -> None:
    told = {}
    for name in ("en", "zh"):
        told[name] = subprocess.run(
            [sys.executable, "-m", "taomagic", "ssd", "prune", "--help"],
            env=_environ(tmp_path, TAO_LANG=name, COLUMNS="80"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        ).stdout
    assert told["en"].startswith("usage: tao ssd prune")
    assert told["zh"].startswith("用法：tao ssd prune")
    assert "要剪枝的模型" in told["zh"]
    assert max(map(display_width, re.findall(r"^ {24}(?=[^ ]*[\u4e00-\u9fff]).*$", told["zh"], re.M))) <= 80
    # What is typed is the same in both.
    flags = re.compile(r"(?<![\w-])--?\w[\w-]*")
    assert set(flags.findall(told["zh"])) == set(flags.findall(told["en"]))


@pytest.mark.usefixtures("chinese")
def test_errors_are_shown_in_chinese_and_kept_in_english() -> None:
    problem = SpecProblem("unknown field 'x' in nms_config", path="a.txt", line=3, hint="Did you mean top_k?")
    assert str(problem) == "a.txt:3: nms_config 里没有字段 'x'\n提示：您是不是想写 top_k？"
    assert problem._render_traceback_()[0] == "Spec 错误: a.txt:3: nms_config 里没有字段 'x'"
    assert problem.message == "unknown field 'x' in nms_config"
    failed = StageFailed("the disk is full", exit_code=1, log_path=Path("/a/log.txt"), tail=("Error: car",))
    assert failed._render_traceback_() == [
        "命令失败: 磁盘已满",
        "",
        "  │ Error: car",
        "退出码：1",
        "完整日志：/a/log.txt",
    ]


def test_errors_are_english_without_a_wish() -> None:
    assert str(UsageProblem("the disk is full", hint="x")) == "the disk is full\nHint: x"
    assert all(character < "\u4e00" for kind in (TaoError, UsageProblem) for character in kind.title)


def test_a_cell_shows_its_error_in_chinese(tmp_path: Path) -> None:
    code = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "taomagic")
shell.run_cell("%tao ssd train -e $NOWHERE")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=_environ(tmp_path, TAO_LANG="zh"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert "环境错误: $NOWHERE 没有设置。" in ended.stdout
    assert "Traceback" not in ended.stdout


#: English that stays: NVIDIA's and the field's own words, and file names.
_STAYS = re.compile(
    r"\b(?:tao|ssd|train|loss|epoch|val|mAP|AP|lr|job|car|cyclist|pedestrian|tlt|TAO|Epoch)\b", re.I
)


def _english(text: str) -> list[str]:
    text = re.sub(r"[\w.-]*/[\w./-]*|\*+|-\w\b|\w*_\w+", " ", text)
    return re.findall(r"[A-Za-z]{2,}", _STAYS.sub(" ", text))


@pytest.mark.usefixtures("chinese")
def test_the_saved_card_is_all_chinese(succeeded: Snapshot) -> None:
    html = static.run_html(succeeded)
    shown = re.sub(r"<details.*?</details>|<code.*?</code>", " ", html, flags=re.S)
    said = re.sub(r"<[^>]*>", " ", shown)
    assert "成功" in said
    assert "写出的文件" in said
    assert "各类别" in said
    assert not _english(said)
    assert 'aria-label="TAO 任务 3f2a9c81d0"' in html
    assert "日志的最后 20 行" in html
    assert re.search(r'alt="[^"]*平均精度[^"]*最高 0\.\d+，在 epoch 8', html)


@pytest.mark.usefixtures("chinese")
def test_a_failed_run_tells_cause_and_hint_in_chinese(failed: Snapshot) -> None:
    said = summary.run_text(failed)
    assert "✗ tao ssd train 失败，用时 1.2 秒（任务 3f2a9c81d0）" in said
    assert "  原因：specs/ssd_train.txt:14: " in said
    assert "  提示：您是不是想写 `batch_size_per_gpu`？" in said
    assert "  退出码：1" in said


@pytest.mark.usefixtures("chinese")
def test_the_text_of_a_run_is_chinese_and_its_columns_are_even(succeeded: Snapshot) -> None:
    lines = summary.closing_lines(succeeded)
    assert lines[0] == "✓ tao ssd train 成功，用时 3 分 12 秒（任务 3f2a9c81d0）"
    numbers = [line for line in lines if re.match(r"  \S+( \S+)? +\d\.\d{4}", line)]
    assert len(numbers) > 3
    assert len({display_width(re.match(r".*?\d\.\d{4}", line)[0]) for line in numbers}) == 1  # type: ignore[index]
    progress = summary.progress_words
    assert progress(succeeded) == "epoch 8 / 8"


@pytest.mark.usefixtures("chinese")
def test_a_table_in_chinese_has_even_columns() -> None:
    rows = (("3f2a", "▶ running", "epoch 3 of 8", "tao ssd train"), ("77", "✗ failed", "", "tao list"))
    table = Table("TAO jobs", ("job", "state", "progress", "command"), rows, ("None.",), code=(0, 3))
    lines = str(table).split("\n")
    assert lines[0] == "TAO 任务"
    found = ((lines[1], "命令"), (lines[3], "tao"), (lines[4], "tao"))
    assert len({display_width(line[: line.index(mark)]) for line, mark in found}) == 1
    assert "▶ 正在运行" in lines[3]
    html = table._repr_html_()
    assert "失败" in html
    assert "没有。" in html


@pytest.mark.usefixtures("chinese")
def test_a_drawing_is_chinese_and_keeps_the_names_of_classes() -> None:
    drawing = precision_bars({"car": 0.9, "state": 0.5}, 0.7)
    assert drawing is not None
    assert "<title>各类别的平均精度：" in drawing.svg
    assert ">state<" in drawing.svg, "A class is called as in the spec, whatever the word means elsewhere."


def test_the_panel_script_gets_its_words_with_their_places(
    monkeypatch: pytest.MonkeyPatch, chinese: None
) -> None:
    said = words()
    assert said["stop"] == "停止"
    same = {name for name in TEXTS if said[name] == TEXTS[name]}
    assert same <= {"epoch", "at_epoch"}
    placed: Callable[[str], list[str]] = lambda text: sorted(re.findall(r"\{\w+\}", text))  # noqa: E731
    assert all(placed(said[name]) == placed(TEXTS[name]) for name in TEXTS)
    monkeypatch.setenv("TAO_LANG", "en")
    assert words() == TEXTS


def test_the_help_of_a_part_of_a_command_is_named_as_it_is_typed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "taomagic", "samples", "create"],
        env=_environ(tmp_path, TAO_LANG="zh"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (
        ended.stderr
        == "tao samples create: 缺少必需的参数：DIR\n提示：用 `tao samples create --help` 查看参数。\n"
    )
