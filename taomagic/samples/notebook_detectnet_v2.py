"""The cells of ``notebooks/detectnet_v2/detectnet_v2.ipynb``, in the order a learner meets them.

:mod:`taomagic.samples.build` makes a notebook of them.
"""

from __future__ import annotations

from taomagic.samples.notebook_cells import (
    BOTH_CURVES,
    CURVES,
    INTERRUPTED,
    LABELS,
    PRUNED,
    Cell,
    code,
    md,
    show_spec,
)

CELLS: tuple[Cell, ...] = (
    md(
        """
# DetectNet_v2 with TAO, from drawn scenes to an INT8 engine

**DetectNet_v2** is NVIDIA's own detector and the network of most TAO tutorials. You will train one on drawn street scenes, make it
smaller by **pruning**, prepare it for whole numbers by **quantisation-aware training**, and build an **INT8 engine** of it: the same
steps, commands and files as in NVIDIA's notebook. Here they run in taomagic's own engine, so you need no GPU, no Docker and no NGC
account. The whole notebook takes about eight minutes on two CPU cores; *Run → Run All Cells* does it all.

| step | command | what comes out |
|---|---|---|
| 1 | `%tao_env` | where everything is, twice |
| 2 | `%tao samples create` | images and labels |
| 3 | `detectnet_v2 dataset_convert` | TFRecords |
| 4 | `detectnet_v2 show` | pictures of what the network is to learn |
| 5 | `detectnet_v2 train` | a detector |
| 6 | `detectnet_v2 evaluate` | how good it is |
| 7 | `detectnet_v2 prune` | a smaller network that has forgotten a lot |
| 8 | `detectnet_v2 train` again | a smaller network that is good again |
| 9 | `detectnet_v2 inference` | pictures with boxes |
| 10 | `detectnet_v2 train` with `enable_qat` | a network that is used to rounding |
| 11 | `detectnet_v2 export` | models for other programs |
| 12 | `detectnet_v2 calibration_tensorfile`, `deploy detectnet_v2 gen_trt_engine` | INT8 engines |
| 13 | `deploy detectnet_v2 compare` | what all this has cost |
"""
    ),
    md(
        """
## 1. Two worlds, and two names for every folder

Here most beginners get stuck, so let us take it slowly.

A TAO command doesn't run where your notebook runs. It runs in a *container*: a small computer within your computer (the *host*),
with folders of its own, which is thrown away when the command ends. What a command wrote there would be gone with it. So nothing of
yours lives in the container. Your folders stay on the host, and the container gets to see them under other names; that is called
*mounting*.

So every folder has two names, and every name works in one world only:

| what lies there | on the host: for you and Python | in the container: for `tao` commands and spec files |
|---|---|---|
| all of it | `LOCAL_PROJECT_DIR` | `/workspace/tao-experiments` |
| images, labels, TFRecords | `LOCAL_DATA_DIR` | `DATA_DOWNLOAD_DIR` |
| what experiments write | `LOCAL_EXPERIMENT_DIR` | `USER_EXPERIMENT_DIR` |
| spec files | `LOCAL_SPECS_DIR` | `SPECS_DIR` |

The rule to remember: **`LOCAL_` is what you touch, the others are what TAO touches.** NVIDIA's notebooks ask you to set all of
these by hand, and one wrong path makes all later cells fail. But they all follow from one: the folder of this notebook.
`%tao_env` derives them, and writes the *mount map*, which tells the launcher what to mount where.
"""
    ),
    code("%load_ext taomagic\n%tao_env detectnet_v2"),
    md(
        """
This is the mount map. NVIDIA's launcher knows only one, `~/.tao_mounts.json`, so two notebooks with different folders get into each
other's way. `%tao_env` gives each project its own, which `LAUNCHER_MOUNTS` points to.
"""
    ),
    code(
        """
import os
from pathlib import Path

print(Path(os.environ["LAUNCHER_MOUNTS"]).read_text())
"""
    ),
    md(
        """
Two entries are enough for everything. To translate a path, find the entry with the longest beginning that fits, and put one name in
the place of the other:
"""
    ),
    code(
        """
from taomagic.project.mounts import read_mounts

paths = read_mounts(Path(os.environ["LAUNCHER_MOUNTS"])).paths
for name in ("DATA_DOWNLOAD_DIR", "USER_EXPERIMENT_DIR", "SPECS_DIR"):
    print(f"{os.environ[name]:<44} is here {paths.to_host(os.environ[name])}")
"""
    ),
    md(
        """
The engine that runs here is no container, but it translates by the same map. So your commands and specs keep NVIDIA's paths, and go
on working on the day when you run them in NVIDIA's containers.

## 2. Sample data

550 images to learn from, 40 to look at. They are drawn, not photographed: cars, pedestrians and cyclists in perspective, hidden
behind each other, in different light. The layout is that of the **KITTI** data set, so your own KITTI-style data can take their
place. Mind the size, though: **DetectNet_v2 doesn't resize**. It cuts off, or fills up with black, what doesn't fit its input. So
have your images in the size that the spec says (a multiple of 16 in both directions), as these are.
"""
    ),
    code("%tao samples create $LOCAL_DATA_DIR --count 550 --val 0 --testing 40 --size 480x160"),
    *LABELS,
    md(
        """
## 3. Specs, and labels into TFRecords

A *spec* file describes what a command is to do. DetectNet_v2 has seven: one for the TFRecords, three for trainings, three for
inference. These are small versions of NVIDIA's: a ResNet-10 of a quarter of the usual width. The field `width_multiplier` is
taomagic's own; NVIDIA's containers don't know it. Specs at NVIDIA's full size come with taomagic too
(`%tao samples specs detectnet_v2 DIR --scale kitti`).
"""
    ),
    code("%tao samples specs detectnet_v2 $LOCAL_SPECS_DIR"),
    show_spec("detectnet_v2_tfrecords_kitti_trainval.txt"),
    md(
        """
`dataset_convert` writes the labels into a few large files, and checks each one on the way. The images stay where they are. It also
keeps a part of them apart, 27 % here: *fold 0*. The network never trains on fold 0, it is only measured on it
(`validation_fold: 0` in the training specs).
"""
    ),
    code(
        """
%%tao detectnet_v2 dataset_convert
    -d $SPECS_DIR/detectnet_v2_tfrecords_kitti_trainval.txt
    -o $DATA_DOWNLOAD_DIR/tfrecords/kitti_trainval/kitti_trainval
    -r $USER_EXPERIMENT_DIR
"""
    ),
    md(
        """
What is in such a file? One *record* for each image: its name, its size, and its objects as lists, one value for each object.
"""
    ),
    code(
        """
from taomagic.engine.data.example_pb2 import Example
from taomagic.engine.data.tfrecord import read_records

records = sorted((data / "tfrecords/kitti_trainval").glob("*-fold-001-*"))
_, record = next(read_records(records[0]))
for name, feature in sorted(Example.FromString(record).features.feature.items()):
    values = getattr(feature, feature.WhichOneof("kind")).value
    print(f"{name:<32}", *(f"{v:.5g}" if isinstance(v, float) else v for v in values[:4]))
"""
    ),
    md(
        """
## 4. What the network is to learn

DetectNet_v2 lays a grid over the image, with cells of 16 × 16 pixels: 30 × 10 of them here. For each class, every cell answers two
questions:

* **Coverage**: how much of me is part of an object? A number from 0 to 1.
* **Box**: if so, how far are the object's left, top, right and bottom sides from me? Four numbers.

To learn this, it needs the right answers. So each labelled box is drawn into the grid as an ellipse, filled with coverage: the
*rasteriser* does it, by these rules. They are a part of the spec of the training; the whole file has 270 lines, and we look at it bit by bit.
"""
    ),
    code(
        """
spec = Path(os.environ["LOCAL_SPECS_DIR"]) / "detectnet_v2_train_resnet10_sample.txt"
print(gallery.spec_block(spec, "bbox_rasterizer_config"))
"""
    ),
    md(
        """
And these are the answers, as the network will be told them:
"""
    ),
    code(
        """
%%tao detectnet_v2 show
    -e $SPECS_DIR/detectnet_v2_train_resnet10_sample.txt
    -r $USER_EXPERIMENT_DIR/show_targets
"""
    ),
    code(
        """
experiment = Path(os.environ["LOCAL_EXPERIMENT_DIR"])
gallery.show_images(experiment / "show_targets/images", count=2, columns=1)
"""
    ),
    md(
        """
## 5. Train

Training shows the network the images again and again (each time is an *epoch*), a little changed each time: flipped, shifted, in
slightly other colours. After each batch it moves the weights a little, so that the answers get closer to the right ones. In the loss,
coverage is a yes-or-no question (cross-entropy), and the boxes count by their distance, where there is coverage.

This is what the spec says about it. `learning_rate` rises softly, stays, and falls again.
"""
    ),
    code('print(gallery.spec_block(spec, "training_config"))'),
    code(
        """
%%tao -o unpruned_training detectnet_v2 train
    -e $SPECS_DIR/detectnet_v2_train_resnet10_sample.txt
    -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned
    -n resnet10_detector
    -k $KEY
    --gpus $NUM_GPUS
"""
    ),
    INTERRUPTED,
    CURVES,
    md(
        """
## 6. Evaluate

Many cells speak of the same car, each with a box of its own. *Clustering* (DBSCAN) makes one of them: boxes that overlap enough form
a group, and the group's box is their mean, weighted by coverage.

*Average precision* (AP) of a class: how many of its objects are found, and how many of the findings are right. 1 is perfect. *mAP* is
the mean over the classes. The spec has NVIDIA's rules for KITTI: a pedestrian or cyclist is found if the box overlaps the true one by
half; a car only if it does by 0.7. See `postprocessing_config` and `evaluation_config` there.
"""
    ),
    code(
        """
%%tao -o unpruned detectnet_v2 evaluate
    -e $SPECS_DIR/detectnet_v2_train_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/resnet10_detector.tlt
    -k $KEY
"""
    ),
    md(
        """
The number says how good it is. The coverage says what it has understood. These are images of fold 0, which it has never trained on:
"""
    ),
    code(
        """
%%tao detectnet_v2 show
    -e $SPECS_DIR/detectnet_v2_train_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/resnet10_detector.tlt
    -k $KEY
    -r $USER_EXPERIMENT_DIR/show_coverage
"""
    ),
    code('gallery.show_images(experiment / "show_coverage/images", "coverage_*", count=2, columns=1)'),
    md(
        """
## 7. Prune

Many filters of a trained network do little. `prune` compares the strength of each filter with the strongest of its layer and cuts
those below the threshold `-pth`. A higher threshold cuts more. NVIDIA's notebook has 0.0000052, which suits weights that a long
training with a regulariser has pressed towards zero; after this short one, the threshold has to be higher.
"""
    ),
    code(
        """
%%tao -o pruning detectnet_v2 prune
    -m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/resnet10_detector.tlt
    -o $USER_EXPERIMENT_DIR/experiment_dir_pruned/resnet10_nopool_bn_detectnet_v2_pruned.tlt
    -eq union
    -pth 0.78
    -k $KEY
"""
    ),
    PRUNED,
    code(
        """
%%tao -o pruned detectnet_v2 evaluate
    -e $SPECS_DIR/detectnet_v2_train_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_pruned/resnet10_nopool_bn_detectnet_v2_pruned.tlt
    -k $KEY
"""
    ),
    md(
        """
## 8. Retrain

The network has forgotten much, and that is normal. A shorter second training lets the remaining filters take over. Unlike SSD's, its
`train` has no flag for the model to start from: the spec names the pruned model as `pretrained_model_file`, and says with
`load_graph: true` that the file decides about the layers too, not just about the weights.
"""
    ),
    code(
        """
print(gallery.spec_block(spec.with_name("detectnet_v2_retrain_resnet10_sample.txt"), "model_config"))
"""
    ),
    code(
        """
%%tao -o retraining detectnet_v2 train
    -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt
    -r $USER_EXPERIMENT_DIR/experiment_dir_retrain
    -n resnet10_detector_pruned
    -k $KEY
    --gpus $NUM_GPUS
"""
    ),
    BOTH_CURVES,
    code(
        """
%%tao -o retrained detectnet_v2 evaluate
    -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_retrain/weights/resnet10_detector_pruned.tlt
    -k $KEY
"""
    ),
    md(
        """
## 9. Look at it

Numbers say how good a detector is on average; pictures say what it gets wrong. `inference` draws boxes on images and writes label
files. It has a spec of its own, which names the model, the colours, and how sure a detection must be to be drawn. We take the first
images of fold 0, because the truth about them is known.
"""
    ),
    code(
        """
import shutil

looked_at = data / "test_samples"
looked_at.mkdir(parents=True, exist_ok=True)
for image in sorted((data / "training/image_2").iterdir())[:8]:
    shutil.copy(image, looked_at)
"""
    ),
    md(
        """
Both models see the same images: in the body of a `%%tao` cell each line that names a task is a stage of its own. `-m` takes another
model than the spec's.
"""
    ),
    code(
        """
%%tao
detectnet_v2 inference -e $SPECS_DIR/detectnet_v2_inference_kitti_tlt.txt -i $DATA_DOWNLOAD_DIR/test_samples -k $KEY
    -m $USER_EXPERIMENT_DIR/experiment_dir_pruned/resnet10_nopool_bn_detectnet_v2_pruned.tlt
    -r $USER_EXPERIMENT_DIR/tlt_infer_pruned
detectnet_v2 inference -e $SPECS_DIR/detectnet_v2_inference_kitti_tlt.txt -i $DATA_DOWNLOAD_DIR/test_samples -k $KEY
    -r $USER_EXPERIMENT_DIR/tlt_infer_testing
"""
    ),
    code(
        """
gallery.show_boxes(
    looked_at,
    {
        "truth": data / "training/label_2",
        "pruned": experiment / "tlt_infer_pruned/labels",
        "retrained": experiment / "tlt_infer_testing/labels",
    },
    count=5,
)
"""
    ),
    md(
        """
## 10. Get used to whole numbers

An INT8 engine computes with 8-bit whole numbers instead of 32-bit floating point: a quarter of the memory, and several times the
speed on a GPU or a Jetson. But every value is rounded to one of 256 steps. *Quantisation-aware training* (QAT) rounds already while it
trains, so that the network learns to live with it. The spec is the retraining's with one line more: `enable_qat: true`. It starts from
the retrained network, so a few epochs are enough.
"""
    ),
    code(
        """
%%tao -o qat_training detectnet_v2 train
    -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample_qat.txt
    -r $USER_EXPERIMENT_DIR/experiment_dir_retrain_qat
    -n resnet10_detector_pruned_qat
    -k $KEY
    --gpus $NUM_GPUS
"""
    ),
    code(
        """
%%tao -o qat detectnet_v2 evaluate
    -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample_qat.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_retrain_qat/weights/resnet10_detector_pruned_qat.tlt
    -k $KEY
"""
    ),
    md(
        """
## 11. Export

ONNX is a format that many programs read. The exported model gives coverage and boxes; the clustering is left to the program that
uses it. `--gen_ds_config` also writes what NVIDIA's DeepStream needs to know. Of the QAT model, `--cal_json_file` writes which range of
values each layer was trained for.
"""
    ),
    code(
        """
%%tao
detectnet_v2 export -k $KEY -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt --gen_ds_config
    -m $USER_EXPERIMENT_DIR/experiment_dir_retrain/weights/resnet10_detector_pruned.tlt
    -o $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector.onnx
detectnet_v2 export -k $KEY -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample_qat.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_retrain_qat/weights/resnet10_detector_pruned_qat.tlt
    -o $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector_qat.onnx
    --cal_json_file $USER_EXPERIMENT_DIR/experiment_dir_final/calibration_qat.json
"""
    ),
    code('print((experiment / "experiment_dir_final/nvinfer_config.txt").read_text())'),
    md(
        """
## 12. Build engines

An *engine* is a model made ready for one machine. Where TensorRT and a GPU are there, this builds a TensorRT engine; here it is one for
ONNX Runtime, and the log says so.

For INT8 the ranges of all values must be known. For the retrained model they are measured, on images that `calibration_tensorfile`
puts into a file; this is called *post-training quantisation*. The QAT model brings its own ranges. As `calibration_tensorfile`
overwrites nothing, what an earlier run of this notebook has left goes first.
"""
    ),
    code('(experiment / "experiment_dir_final/calibration.tensor").unlink(missing_ok=True)'),
    code(
        """
%%tao
detectnet_v2 calibration_tensorfile -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt -m 10
    -o $USER_EXPERIMENT_DIR/experiment_dir_final/calibration.tensor
deploy detectnet_v2 gen_trt_engine -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt -k $KEY --data_type int8
    -m $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector.onnx
    --cal_data_file $USER_EXPERIMENT_DIR/experiment_dir_final/calibration.tensor
    --cal_cache_file $USER_EXPERIMENT_DIR/experiment_dir_final/calibration.bin
    --batches 10 --batch_size 4 --max_batch_size 16
    --engine_file $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector.trt.int8
    -r $USER_EXPERIMENT_DIR/experiment_dir_final
deploy detectnet_v2 gen_trt_engine -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample_qat.txt -k $KEY --data_type int8
    -m $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector_qat.onnx
    --cal_json_file $USER_EXPERIMENT_DIR/experiment_dir_final/calibration_qat.json
    --cal_cache_file $USER_EXPERIMENT_DIR/experiment_dir_final/calibration_qat.bin
    --max_batch_size 16
    --engine_file $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector_qat.trt.int8
    -r $USER_EXPERIMENT_DIR/experiment_dir_final
"""
    ),
    md(
        """
## 13. Compare

Do the engines see what the trained networks saw? `compare` measures models of all kinds on the same images, by the same rules: how
good, how large, and how fast on this computer, one image at a time. Its picture, `compare/comparison.png`, shows where they disagree.
"""
    ),
    code(
        """
%%tao deploy detectnet_v2 compare
    -e $SPECS_DIR/detectnet_v2_retrain_resnet10_sample.txt -k $KEY -b 1
    -m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/resnet10_detector.tlt
       $USER_EXPERIMENT_DIR/experiment_dir_pruned/resnet10_nopool_bn_detectnet_v2_pruned.tlt
       $USER_EXPERIMENT_DIR/experiment_dir_retrain/weights/resnet10_detector_pruned.tlt
       $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector.trt.int8
       $USER_EXPERIMENT_DIR/experiment_dir_retrain_qat/weights/resnet10_detector_pruned_qat.tlt
       $USER_EXPERIMENT_DIR/experiment_dir_final/resnet10_detector_qat.trt.int8
    -r $USER_EXPERIMENT_DIR/compare
"""
    ),
    md(
        """
And what you have made, in short. That the retrained network is no worse than the unpruned one, or even better, has a simple reason: it
has been trained for longer in all. On a CPU an INT8 engine isn't always much faster; on NVIDIA's hardware it is.
"""
    ),
    code(
        """
gallery.Comparison.from_file(
    experiment / "compare/comparison.json",
    ["unpruned", "pruned", "retrained", "INT8 engine", "retrained with QAT", "INT8 engine with QAT"],
)
"""
    ),
    md(
        """
**Try next**: another `-pth` in step 7 (what happens at 0.7, at 0.85?); another `dbscan_eps` in the spec, and `evaluate` again (what do
boxes that should be one, or two, have to do with it?); more epochs; your own images in `data/training`. And when you have a GPU and
NVIDIA's containers, the commands stay the same.
"""
    ),
)
