"""Valid experiment files at random: every field, every architecture, every spelling of protobuf's text format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

from taomagic.spec._backbones import BACKBONES

#: What stands behind a name: a number or word as written, a text (to be quoted), a list of them, or a block.
Value: TypeAlias = "str | Text | list[Any] | Block"
Block: TypeAlias = "list[tuple[str, Value]]"


@dataclass(frozen=True)
class Text:
    """A string field's value, without quotes."""

    content: str


@dataclass(frozen=True)
class Places:
    """Where the data are."""

    records: str = "/workspace/tao-experiments/data/tfrecords/train*"
    labels: str = "/workspace/tao-experiments/data/training/label_2"
    images: str = "/workspace/tao-experiments/data/training/image_2"
    classes: tuple[str, ...] = ("car", "pedestrian", "cyclist")


def _number(low: float, high: float) -> st.SearchStrategy[str]:
    """Return decimals of some digits, as people write them, in one of protobuf's spellings."""
    numbers = st.floats(low, high).map(lambda value: f"{min(max(value, low), high):.4g}")
    inside = numbers.filter(lambda text: low <= float(text) <= high)
    return st.tuples(inside, st.sampled_from(["", "f"])).map("".join)


def _whole(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).flatmap(lambda value: st.sampled_from([str(value), hex(value)]))


_FLAG = st.sampled_from(["true", "false", "True", "False", "1", "0", "t", "f"])
_RATIOS = st.sampled_from(
    ["1.0", "1", "2.0", "0.5", "3.0", "1.0/3.0", "1/2", "2*0.75", "(1.5)", "+1.0", ".5", "1e0"]
)


def _listed(draw: st.DrawFn, items: Sequence[str]) -> str:
    """Return a Python list or tuple of expressions."""
    opening, closing = draw(st.sampled_from(["[]", "()"]))
    comma = draw(st.sampled_from([",", ", ", " , "]))
    end = "," if closing == ")" and len(items) == 1 else draw(st.sampled_from(["", comma.strip()]))
    return f"{opening}{comma.join(items)}{end}{closing}"


def _maybe(draw: st.DrawFn, name: str, strategy: st.SearchStrategy[Any], block: Block) -> None:
    if draw(st.booleans()):
        block.append((name, draw(strategy)))


def _anchors(draw: st.DrawFn) -> Block:
    ratios = st.lists(_RATIOS, min_size=1, max_size=4)
    block: Block = []
    kind = draw(st.sampled_from(["global", "each", "both"]))
    if kind != "each":
        block.append(("aspect_ratios_global", Text(_listed(draw, draw(ratios)))))
    if kind != "global":
        lists = [_listed(draw, draw(ratios)) for _ in range(6)]
        block.append(("aspect_ratios", Text(_listed(draw, lists))))
    if draw(st.booleans()):
        scales = [*draw(st.lists(_number(0.02, 1.0), min_size=6, max_size=6)), draw(_number(0.1, 1.4))]
        block.append(("scales", Text(_listed(draw, [text.rstrip("f") for text in scales]))))
    else:
        low = draw(st.integers(2, 50))
        high = draw(st.integers(low, 100))
        block += [("min_scale", f"{low / 100}"), ("max_scale", f"{high / 100}")]
    if draw(st.booleans()):
        step = st.one_of(
            st.sampled_from(["8", "16.0", "4*8"]), st.sampled_from(["(8, 16)", "[32.5, 30]", "(100/3, 20)"])
        )
        block.append(("steps", Text(_listed(draw, draw(st.lists(step, min_size=6, max_size=6))))))
    if draw(st.booleans()):
        offset = st.sampled_from(["0.5", "1/2", "0.25", "0.999"])
        block.append(("offsets", Text(_listed(draw, draw(st.lists(offset, min_size=6, max_size=6))))))
    variance = st.sampled_from(["0.1", "0.2", "1", "1/10"])
    block.append(("variances", Text(_listed(draw, draw(st.lists(variance, min_size=4, max_size=4))))))
    return block


def _network(draw: st.DrawFn, *, tiny: bool) -> Block:
    arch = draw(st.sampled_from(sorted(BACKBONES)))
    layers, blocks = BACKBONES[arch].nlayers, BACKBONES[arch].blocks
    block = _anchors(draw)
    block.append(("arch", Text(arch)))
    if layers:
        # The deep ones take their time, and have nothing that the smaller ones don't.
        block.append(
            ("nlayers", str(draw(st.sampled_from([n for n in layers if not tiny or n < 50] or layers))))
        )
    _maybe(draw, "two_boxes_for_ar1", _FLAG, block)
    _maybe(draw, "clip_boxes", _FLAG, block)
    _maybe(draw, "mean_color", st.just(Text("[1, 2, 3]")), block)
    _maybe(draw, "pred_num_channels", st.just("0"), block)
    _maybe(draw, "alpha", _number(0, 3), block)
    _maybe(draw, "neg_pos_ratio", _number(0, 5), block)
    _maybe(draw, "pos_iou_thresh", _number(0, 0.9), block)
    _maybe(draw, "neg_iou_thresh", _number(0, 0.9), block)
    _maybe(draw, "freeze_bn", _FLAG, block)
    frozen = st.lists(st.integers(blocks.first, blocks.last).map(str), max_size=3)
    block.append(("freeze_blocks", draw(frozen)))
    if tiny:
        block.append(("width_multiplier", "0.125"))
    else:
        _maybe(draw, "width_multiplier", _number(0.1, 4), block)
    return block


def _optimizer(draw: st.DrawFn) -> Block:
    fraction, epsilon = _number(0.1, 0.99), st.sampled_from(["1e-7", "0.001", "1E-4"])
    name = draw(st.sampled_from(["sgd", "adam", "rmsprop"]))
    block: Block = []
    if name == "sgd":
        _maybe(draw, "momentum", fraction, block)
        _maybe(draw, "nesterov", _FLAG, block)
    elif name == "adam":
        _maybe(draw, "epsilon", epsilon, block)
        _maybe(draw, "beta1", fraction, block)
        _maybe(draw, "beta2", fraction, block)
        _maybe(draw, "amsgrad", _FLAG, block)
    else:
        _maybe(draw, "rho", fraction, block)
        _maybe(draw, "momentum", fraction, block)
        _maybe(draw, "epsilon", epsilon, block)
        _maybe(draw, "centered", _FLAG, block)
    return [(name, block)]


_WORDS = st.sampled_from(["a", "two words", "mäh", "日本", 'with "quotes"', "it's", "back\\slash"]).map(Text)


def _visualizer(draw: st.DrawFn, *, trackers: bool) -> Block:
    block: Block = []
    _maybe(draw, "enabled", _FLAG, block)
    _maybe(draw, "num_images", _whole(0, 5), block)
    _maybe(draw, "weight_histograms", _FLAG, block)
    wandb: Block = [("enabled", draw(_FLAG) if trackers else "false")]
    for name in ("key", "project", "entity", "name", "wandb_dir", "notes"):
        _maybe(draw, name, _WORDS, wandb)
    _maybe(draw, "reinit", _FLAG, wandb)
    _maybe(draw, "tags", st.lists(_WORDS, max_size=2), wandb)
    _maybe(draw, "mode", st.sampled_from(["ONLINE", "OFFLINE", "DISABLED", "0", "1", "2"]), wandb)
    _maybe(draw, "wandb_config", st.just(wandb), block)
    if trackers:
        clearml: Block = []
        _maybe(draw, "project", _WORDS, clearml)
        _maybe(draw, "task", _WORDS, clearml)
        _maybe(draw, "tags", st.lists(_WORDS, max_size=2), clearml)
        _maybe(draw, "reuse_last_task_id", _FLAG, clearml)
        _maybe(draw, "continue_last_task", _FLAG, clearml)
        _maybe(draw, "deferred_init", st.sampled_from(["true", "false", "0", "1", ""]).map(Text), clearml)
        _maybe(draw, "clearml_config", st.just(clearml), block)
    return block


def _training(draw: st.DrawFn, *, tiny: bool, validated: bool) -> Block:
    low = draw(st.integers(1, 100))
    high = draw(st.integers(low, 100))
    start = draw(st.integers(1, 98))
    fall = draw(st.integers(start + 1, 99))
    schedule: Block = [
        ("min_learning_rate", f"{low}e-5"),
        ("max_learning_rate", f"{high}e-5"),
        ("soft_start", f"{start / 100}"),
        ("annealing", f"{fall / 100}"),
    ]
    kind = draw(st.sampled_from(["NO_REG", "L1", "L2", "0", "1", "2"]))
    regularizer: Block = [("type", kind)]
    if kind not in ("NO_REG", "0") or draw(st.booleans()):
        regularizer.append(("weight", draw(st.sampled_from(["3e-5", "0.0001", "3E-9"]))))
    block: Block = [
        ("batch_size_per_gpu", draw(_whole(1, 4 if tiny else 64))),
        ("num_epochs", "1" if tiny else draw(_whole(1, 200))),
        ("learning_rate", [("soft_start_annealing_schedule", schedule)]),
        ("regularizer", regularizer),
    ]
    if draw(st.booleans()):
        block.append(("optimizer", _optimizer(draw)))
    if draw(st.booleans()):
        scaling: Block = [("enabled", draw(_FLAG))]
        _maybe(draw, "initial_exponent", _number(0, 30), scaling)
        _maybe(draw, "increment", _number(0, 1), scaling)
        _maybe(draw, "decrement", _number(0.5, 2), scaling)
        block.append(("cost_scaling", scaling))
    _maybe(draw, "checkpoint_interval", _whole(0, 3), block)
    _maybe(draw, "enable_qat", _FLAG, block)
    _maybe(draw, "max_queue_size", _whole(0, 4), block)
    _maybe(draw, "n_workers", _whole(0, 2), block)
    _maybe(draw, "use_multiprocessing", st.just("false") if tiny else _FLAG, block)
    _maybe(draw, "model_ema", _FLAG, block)
    if draw(st.booleans()):
        monitors = ["loss", "validation_loss", "val_loss"] if validated else ["loss"]
        stopping: Block = [("monitor", Text(draw(st.sampled_from(monitors))))]
        _maybe(draw, "min_delta", _number(0, 1), stopping)
        _maybe(draw, "patience", _whole(0, 5), stopping)
        block.append(("early_stopping", stopping))
    if draw(st.booleans()):
        block.append(("visualizer", _visualizer(draw, trackers=not tiny)))
    if not tiny and draw(st.booleans()):
        name = draw(st.sampled_from(["resume", "pretrain", "pruned"]))
        block.append((f"{name}_model_path", draw(_WORDS)))
    return block


def _evaluation(draw: st.DrawFn, *, every_epoch: bool) -> Block:
    block: Block = [
        ("validation_period_during_training", "1" if every_epoch else draw(_whole(1, 10))),
        ("batch_size", draw(_whole(1, 8))),
        ("matching_iou_threshold", draw(_number(0.1, 0.9))),
    ]
    _maybe(draw, "average_precision_mode", st.sampled_from(["SAMPLE", "INTEGRATE", "0", "1"]), block)
    _maybe(draw, "visualize_pr_curve", _FLAG, block)
    return block


def _suppression(draw: st.DrawFn) -> Block:
    name = draw(st.sampled_from(["clustering_iou_threshold", "cluster_iou_threshold"]))
    block: Block = [
        ("confidence_threshold", draw(_number(0.01, 0.9))),
        (name, draw(_number(0.1, 0.9))),
        ("top_k", draw(_whole(1, 300))),
    ]
    _maybe(draw, "infer_nms_score_bits", _whole(0, 12), block)
    _maybe(draw, "force_on_cpu", _FLAG, block)
    return block


def _augmentation(draw: st.DrawFn, *, tiny: bool) -> Block:
    size = _whole(33, 96 if tiny else 2000)
    channels = draw(st.sampled_from(["1", "3"]))
    block: Block = [("output_width", draw(size)), ("output_height", draw(size)), ("output_channel", channels)]
    for name, low, high in (
        ("random_crop_{}_scale", 20, 100), ("random_crop_{}_ar", 30, 300), ("zoom_out_{}_scale", 100, 300)
    ):  # fmt: skip
        if draw(st.booleans()):
            first = draw(st.integers(low, high))
            second = draw(st.integers(first, high))
            block += [(name.format("min"), f"{first / 100}"), (name.format("max"), f"{second / 100}")]
    _maybe(draw, "brightness", _whole(0, 60), block)
    _maybe(draw, "contrast", _number(0, 0.9), block)
    _maybe(draw, "saturation", _number(0, 0.9), block)
    _maybe(draw, "hue", _whole(0, 90), block)
    _maybe(draw, "random_flip", _number(0, 0.9), block)
    if draw(st.booleans()):
        for key in "bgr" if channels == "3" else "l":
            block.append(("image_mean", [("key", Text(key)), ("value", draw(_number(0, 255)))]))
    return block


def _data(draw: st.DrawFn, places: Places, *, from_records: bool, validated: bool) -> Block:
    folders: Block = [
        ("label_directory_path", Text(places.labels)),
        ("image_directory_path", Text(places.images)),
    ]
    source: Block = [("tfrecords_path", Text(places.records))] if from_records else folders
    block: Block = [("data_sources", source)] * draw(st.sampled_from([1, 1, 2]))
    if validated:
        block.append(("validation_data_sources", folders))
    _maybe(draw, "include_difficult_in_training", _FLAG, block)
    _maybe(draw, "type", st.just(Text("kitti")), block)
    # Records hold class ids, so their classes are given; labels hold names, which may go anywhere.
    names = places.classes if from_records else draw(st.permutations(places.classes))
    targets = (
        names if from_records else draw(st.lists(st.sampled_from(places.classes), min_size=1, max_size=3))
    )
    spelled = st.sampled_from([str.lower, str.upper, str.title])
    for name, target in zip(names, targets, strict=False):
        entry: Block = [("key", Text(draw(spelled)(name))), ("value", Text(draw(spelled)(target)))]
        block.append(("target_class_mapping", entry))
    return block


@st.composite
def experiments(draw: st.DrawFn, places: Places = Places(), *, tiny: bool = False) -> Block:
    """Draw the content of a valid experiment file.

    Parameters
    ----------
    draw
        Given by hypothesis.
    places
        Where the data are.
    tiny
        Only what trains within a second or two: narrow networks, small images, one epoch; nothing that needs another
        package or a file that isn't there.
    """
    validated = draw(st.booleans())
    from_records = draw(st.booleans())
    block: Block = [
        ("ssd_config", _network(draw, tiny=tiny)),
        ("training_config", _training(draw, tiny=tiny, validated=validated)),
        ("eval_config", _evaluation(draw, every_epoch=validated)),
        ("nms_config", _suppression(draw)),
        ("augmentation_config", _augmentation(draw, tiny=tiny)),
        ("dataset_config", _data(draw, places, from_records=from_records, validated=validated)),
    ]
    _maybe(draw, "random_seed", _whole(0, 2**32 - 1), block)
    return block


def plain(block: Block, indent: str = "") -> str:
    """Return the file as people mostly write it: one field a line."""
    lines = []
    for name, value in block:
        if isinstance(value, list) and (not value or not isinstance(value[0], tuple)) and _is_scalars(name):
            lines += [f"{indent}{name}: {_literal(item)}" for item in value]
        elif isinstance(value, list):
            lines.append(f"{indent}{name} {{\n{plain(value, indent + '  ')}{indent}}}")
        else:
            lines.append(f"{indent}{name}: {_literal(value)}")
    return "".join(f"{line}\n" for line in lines)


def _is_scalars(name: str) -> bool:
    """Whether an empty list under this name is one of scalars; all others are blocks."""
    return name in ("freeze_blocks", "tags")


def _literal(value: Any, quote: str = '"') -> str:
    if not isinstance(value, Text):
        return str(value)
    escaped = value.content.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{quote}"


@st.composite
def spellings(draw: st.DrawFn, block: Block, *, shuffle: bool = True) -> str:
    """Draw one of the many ways to write a file: order, blanks, quotes, comments, lists, brackets, separators."""
    fields = list(block)
    if shuffle:  # fields of one name keep their order
        order = draw(st.permutations(range(len(fields))))
        names = [fields[index][0] for index in order]
        waiting = {name: [item for item in fields if item[0] == name] for name in names}
        fields = [waiting[name].pop(0) for name in names]
    parts = []
    for name, value in fields:
        gap = draw(st.sampled_from([" ", "\n", "\t", "  # a { comment: 'with' all sorts\n"]))
        end = draw(st.sampled_from(["\n", " ", ",", ";", " # done }\n"]))
        quote = draw(st.sampled_from("\"'"))
        if isinstance(value, list) and (not value or not isinstance(value[0], tuple)) and _is_scalars(name):
            if draw(st.booleans()):
                parts.append(f"{name}:{gap}[{', '.join(_literal(item, quote) for item in value)}]{end}")
            else:
                parts += [f"{name}:{gap}{_literal(item, quote)}{end}" for item in value]
        elif isinstance(value, list):
            opening, closing = draw(st.sampled_from(["{}", "<>"]))
            colon = draw(st.sampled_from([":", ""]))
            parts.append(f"{name}{colon}{gap}{opening}{gap}{draw(spellings(value))}{closing}{end}")
        else:
            parts.append(f"{name}:{gap}{_literal(value, quote)}{end}")
    return "".join(parts)
