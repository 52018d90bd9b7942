"""The cells of ``notebooks/ssd/ssd.ipynb``, in the order a learner meets them.

Each entry is ``("md", text)`` or ``("code", text)``; :mod:`taomagic.samples.build` makes a notebook of them.
"""

from __future__ import annotations

from taomagic.samples.notebook_cells import BOTH_CURVES, CURVES, INTERRUPTED, LABELS, PRUNED, Cell, show_spec

CELLS: tuple[Cell, ...] = (
    (
        "md",
        """
# From pictures to a detector: SSD with TAO, in one notebook

You will draw a small set of street scenes, train an **SSD** detector on it, make the network smaller by **pruning**, train it
again, and export it to **ONNX**: the same steps, commands and spec files as in NVIDIA's TAO notebooks. Here they run in
taomagic's own engine, so you need no GPU, no Docker and no NGC account. The whole notebook takes about six minutes on two CPU
cores; *Run → Run All Cells* does it all.

| step | command | what comes out |
|---|---|---|
| 1 | `%tao_env` | where everything is |
| 2 | `%tao samples create` | images and labels |
| 3 | `ssd dataset_convert` | TFRecords |
| 4 | `ssd train` | a detector |
| 5 | `ssd evaluate` | how good it is |
| 6 | `ssd prune` | a smaller network that has forgotten a lot |
| 7 | `ssd train` again | a smaller network that is good again |
| 8 | `ssd inference` | pictures with boxes |
| 9 | `ssd export` | a model for other programs |
""",
    ),
    (
        "md",
        """
## 1. Where everything is

A TAO command runs in a *container*, a small world of its own with its own folders. So every folder has two names: one on your
computer (the *host*), one in the container. NVIDIA's notebooks ask you to set nine variables for this by hand, and one wrong
path makes all later cells fail. `%tao_env` derives all of them from the folder of this notebook.
""",
    ),
    ("code", "%load_ext taomagic\n%tao_env ssd"),
    (
        "md",
        """
Variables that begin with `LOCAL_` are host paths: use them for files that *you* read or write. The others are container paths:
use them in TAO commands and in spec files. The *mount map*, which `%tao_env` wrote as well, connects the two.
""",
    ),
    (
        "md",
        """
## 2. Sample data

400 images to train on, 150 to measure with, 40 to look at. They are drawn, not photographed: cars, pedestrians and cyclists in
perspective, hidden behind each other, in different light. The layout is that of the **KITTI** data set, so your own KITTI-style
data can take their place.
""",
    ),
    ("code", "%tao samples create $LOCAL_DATA_DIR --count 400 --val 150 --testing 40"),
    *LABELS,
    (
        "md",
        """
## 3. Specs, and images into TFRecords

A *spec* file describes an experiment: the data, the network, how long to train. These are small versions of NVIDIA's: a ResNet-10
of a quarter of the usual width, and images of 480 × 160. The field `width_multiplier` is taomagic's own; NVIDIA's containers don't
know it. Specs at NVIDIA's full size come with taomagic too (`%tao samples specs ssd DIR --scale kitti`).
""",
    ),
    ("code", "%tao samples specs ssd $LOCAL_SPECS_DIR"),
    show_spec("ssd_tfrecords_kitti_train.txt"),
    (
        "md",
        """
`dataset_convert` packs images and labels into a few large files, which load faster than thousands of small ones. It also checks
every label on the way.
""",
    ),
    (
        "code",
        """
%%tao ssd dataset_convert
    -d $SPECS_DIR/ssd_tfrecords_kitti_train.txt
    -o $DATA_DOWNLOAD_DIR/ssd/tfrecords/kitti_train
    -r $USER_EXPERIMENT_DIR/tfrecords
""",
    ),
    (
        "md",
        """
## 4. Train

SSD covers the image with thousands of *anchor boxes* of different sizes and shapes. For each one the network says which class is in
it, and how the box must be shifted and stretched to fit. Training shows it the images again and again (each time is an *epoch*),
a little changed each time: flipped, cropped, zoomed, brighter or darker.

This is the spec. `learning_rate` rises softly, stays, and falls again; `validation_period_during_training` says how often the
network is measured on the images it does not train on.
""",
    ),
    show_spec("ssd_train_resnet10_sample.txt"),
    (
        "code",
        """
%%tao -o unpruned_training ssd train
    -e $SPECS_DIR/ssd_train_resnet10_sample.txt
    -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned
    -k $KEY
    --gpus $NUM_GPUS
""",
    ),
    INTERRUPTED,
    CURVES,
    (
        "md",
        """
## 5. Evaluate

*Average precision* (AP) of a class: how many of its objects are found, and how many of the findings are right. 1 is perfect. *mAP*
is the mean over the classes. A finding counts if it overlaps the true box by at least half.
""",
    ),
    (
        "code",
        """
EPOCH = f"{len(unpruned_training.history):03d}"
UNPRUNED = f"experiment_dir_unpruned/weights/ssd_resnet10_epoch_{EPOCH}.tlt"
UNPRUNED
""",
    ),
    (
        "code",
        """
%%tao -o unpruned ssd evaluate
    -e $SPECS_DIR/ssd_train_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/$UNPRUNED
    -k $KEY
""",
    ),
    (
        "md",
        """
## 6. Prune

Many filters of a trained network do little. `prune` compares the strength of each filter with the strongest of its layer and cuts
those below the threshold `-pth`. A higher threshold cuts more.
""",
    ),
    (
        "code",
        """
%%tao -o pruning ssd prune
    -m $USER_EXPERIMENT_DIR/$UNPRUNED
    -o $USER_EXPERIMENT_DIR/experiment_dir_pruned/ssd_resnet10_pruned.tlt
    -eq intersection
    -pth 0.78
    -k $KEY
""",
    ),
    PRUNED,
    (
        "code",
        """
%%tao -o pruned ssd evaluate
    -e $SPECS_DIR/ssd_train_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_pruned/ssd_resnet10_pruned.tlt
    -k $KEY
""",
    ),
    (
        "md",
        """
## 7. Retrain

The network has forgotten much, and that is normal. A shorter second training, which starts from the pruned network (`-m`), lets
the remaining filters take over. Its spec leaves out the regulariser, as NVIDIA recommends.
""",
    ),
    (
        "code",
        """
%%tao -o retraining ssd train
    -e $SPECS_DIR/ssd_retrain_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/experiment_dir_pruned/ssd_resnet10_pruned.tlt
    -r $USER_EXPERIMENT_DIR/experiment_dir_retrain
    -k $KEY
    --gpus $NUM_GPUS
""",
    ),
    BOTH_CURVES,
    (
        "code",
        """
EPOCH = f"{len(retraining.history):03d}"
RETRAINED = f"experiment_dir_retrain/weights/ssd_resnet10_epoch_{EPOCH}.tlt"
RETRAINED
""",
    ),
    (
        "code",
        """
%%tao -o retrained ssd evaluate
    -e $SPECS_DIR/ssd_retrain_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/$RETRAINED
    -k $KEY
""",
    ),
    (
        "md",
        """
## 8. Look at it

Numbers say how good a detector is on average; pictures say what it gets wrong. `inference` draws boxes on images and writes label
files. Here both models see the same images: in the body of a `%%tao` cell each line that names a task is a stage of its own.
""",
    ),
    (
        "code",
        """
%%tao
ssd inference -i $DATA_DOWNLOAD_DIR/val/image_2 -e $SPECS_DIR/ssd_train_resnet10_sample.txt -k $KEY -t 0.4
    -m $USER_EXPERIMENT_DIR/experiment_dir_pruned/ssd_resnet10_pruned.tlt
    -r $USER_EXPERIMENT_DIR/inference_pruned
ssd inference -i $DATA_DOWNLOAD_DIR/val/image_2 -e $SPECS_DIR/ssd_retrain_resnet10_sample.txt -k $KEY -t 0.4
    -m $USER_EXPERIMENT_DIR/$RETRAINED
    -r $USER_EXPERIMENT_DIR/inference_retrained
""",
    ),
    (
        "code",
        """
experiment = Path(os.environ["LOCAL_EXPERIMENT_DIR"])
gallery.show_boxes(
    data / "val/image_2",
    {
        "truth": data / "val/label_2",
        "pruned": experiment / "inference_pruned/labels",
        "retrained": experiment / "inference_retrained/labels",
    },
    count=4,
)
""",
    ),
    (
        "md",
        """
## 9. Export

ONNX is a format that many programs read. The exported model contains the whole detector, with the selection of the best boxes
(non-maximum suppression) inside. `--gen_ds_config` also writes what NVIDIA's DeepStream needs to know about it.
""",
    ),
    (
        "code",
        """
%%tao -o exporting ssd export
    -m $USER_EXPERIMENT_DIR/$RETRAINED
    -e $SPECS_DIR/ssd_retrain_resnet10_sample.txt
    -o $USER_EXPERIMENT_DIR/export/ssd_sample.onnx
    -k $KEY
    --gen_ds_config
""",
    ),
    (
        "md",
        """
Does the exported model see what the trained one saw? The same command measures it, now in ONNX Runtime.
""",
    ),
    (
        "code",
        """
%%tao -o exported ssd evaluate
    -e $SPECS_DIR/ssd_retrain_resnet10_sample.txt
    -m $USER_EXPERIMENT_DIR/export/ssd_sample.onnx
""",
    ),
    (
        "md",
        """
And this is all that another program needs to use it: ONNX Runtime, an image, fifteen lines. Nothing of taomagic is involved.
""",
    ),
    (
        "code",
        """
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(experiment / "export/ssd_sample.onnx")
_, channels, height, width = session.get_inputs()[0].shape
photo = Image.open(data / "testing/image_2/000000.jpg").convert("RGB")
pixels = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
blue_green_red = pixels[:, :, ::-1] - np.array([103.939, 116.779, 123.68], dtype=np.float32)
batch = np.ascontiguousarray(blue_green_red.transpose(2, 0, 1)[None])

rows, count = session.run(["NMS", "NMS_1"], {"Input": batch})
names = ["background", "car", "cyclist", "pedestrian"]
for _, label, confidence, x1, y1, x2, y2 in rows[0, 0]:
    if confidence > 0.4:
        box = np.array([x1, y1, x2, y2]) * (photo.size * 2)  # from shares of the image to pixels
        print(f"{names[int(label)]:<12}{confidence:.2f}  at {box.round()}")
""",
    ),
    (
        "md",
        """
## What you have made

The same detector at each step: how good, how large, how fast on this computer (one image at a time).
""",
    ),
    (
        "code",
        """
gallery.Comparison(
    {"unpruned": unpruned, "pruned": pruned, "retrained": retrained, "exported (ONNX)": exported}
)
""",
    ),
    (
        "md",
        """
**Try next**: another `-pth` in step 6 (what happens at 0.7, at 0.85?); more epochs in the spec; your own images in
`data/training`. And when you have a GPU and NVIDIA's containers, the commands stay the same.
""",
    ),
)
