"""The TAO commands of NVIDIA's detectnet_v2 and ssd notebooks in every generation, and what each one means.

A row is a cell's command as it stands there (blanks, backslashes and all) and everything that it sets: what isn't named
keeps its default. ``S/``, ``U/`` and ``D/`` begin the host paths of specs, experiment and data.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One command.

    ``family`` is that of the variables, ``words`` the task with its sub-task as the engine calls them, ``cell`` the
    text and ``sets`` the parsed arguments that differ from their defaults.
    """

    generation: str
    family: str
    words: str
    cell: str
    sets: dict[str, Any]

    @property
    def net(self) -> str:
        """The notebook's network; ``tao converter`` doesn't name it."""
        return "ssd" if "ssd" in self.cell else "detectnet_v2"


ROWS: list[Row] = []


def _add(generation: str, words: str, cell: str, *, family: str = "a", **sets: Any) -> None:
    ROWS.append(Row(generation, family, words, cell, sets))


UNPRUNED, PRUNED, RETRAIN = "experiment_dir_unpruned", "experiment_dir_pruned", "experiment_dir_retrain"
_FINAL = "$USER_EXPERIMENT_DIR/experiment_dir_final"


def _detectnet(
    generation: str, tao: str, *, key: str, weights: str, infers_into: str, images: str, results: str = ""
) -> None:
    """What the notebooks of all generations have: records, trainings, evaluations, pruning, inference."""
    keyed: dict[str, Any] = {"key": "tlt_encode"} if key else {}
    _add(
        generation,
        "detectnet_v2 dataset_convert",
        f"!{tao} dataset_convert \\\n"
        "                  -d $SPECS_DIR/detectnet_v2_tfrecords_kitti_trainval.txt \\\n"
        "                  -o $DATA_DOWNLOAD_DIR/tfrecords/kitti_trainval/kitti_trainval"
        + (f" \\\n                  -r {results}" if results else ""),
        spec="S/detectnet_v2_tfrecords_kitti_trainval.txt",
        output="D/tfrecords/kitti_trainval/kitti_trainval",
        **({"results_dir": "U/"} if results else {}),
    )
    for spec, folder, name in (
        ("train_resnet18_kitti", UNPRUNED, "resnet18_detector"),
        ("retrain_resnet18_kitti", RETRAIN, "resnet18_detector_pruned"),
        ("retrain_resnet18_kitti_qat", f"{RETRAIN}_qat", "resnet18_detector_pruned_qat"),
    ):
        _add(
            generation,
            "detectnet_v2 train",
            f"!{tao} train -e $SPECS_DIR/detectnet_v2_{spec}.txt \\\n"
            f"                        -r $USER_EXPERIMENT_DIR/{folder} \\\n"
            + (f"                        {key} \\\n" if key else "")
            + f"                        -n {name} \\\n"
            "                        --gpus $NUM_GPUS",
            spec=f"S/detectnet_v2_{spec}.txt",
            results_dir=f"U/{folder}",
            model_name=name,
            **keyed,
        )
        # The first one has no blank before the backslash.
        _add(
            generation,
            "detectnet_v2 evaluate",
            f"!{tao} evaluate -e $SPECS_DIR/detectnet_v2_{spec}.txt{'' if name == 'resnet18_detector' else ' '}\\\n"
            f"                           -m $USER_EXPERIMENT_DIR/{folder}/weights/{name}{weights}"
            + (f" \\\n                           {key}" if key else "")
            + (" \\\n                           -f tlt" if name.endswith("qat") else ""),
            spec=f"S/detectnet_v2_{spec}.txt",
            model=f"U/{folder}/weights/{name}{weights}",
            **({"framework": "tlt"} if name.endswith("qat") else {}),
            **keyed,
        )
    pruned = f"{PRUNED}/resnet18_nopool_bn_detectnet_v2_pruned{weights}"
    _add(
        generation,
        "detectnet_v2 prune",
        f"!{tao} prune \\\n"
        f"                  -m $USER_EXPERIMENT_DIR/{UNPRUNED}/weights/resnet18_detector{weights} \\\n"
        f"                  -o $USER_EXPERIMENT_DIR/{pruned} \\\n"
        "                  -eq union \\\n"
        "                  -pth 0.0000052" + (f" \\\n                  {key}" if key else ""),
        model=f"U/{UNPRUNED}/weights/resnet18_detector{weights}",
        output=f"U/{pruned}",
        threshold=5.2e-6,
        **keyed,
    )
    _add(
        generation,
        "detectnet_v2 inference",
        f"!{tao} inference -e $SPECS_DIR/detectnet_v2_inference_kitti_tlt.txt \\\n"
        f"                            {infers_into} $USER_EXPERIMENT_DIR/tlt_infer_testing \\\n"
        f"                            -i $DATA_DOWNLOAD_DIR/{images}"
        + (f" \\\n                            {key}" if key else ""),
        spec="S/detectnet_v2_inference_kitti_tlt.txt",
        results_dir="U/tlt_infer_testing",
        image_dir=f"D/{images}",
        **keyed,
    )


for _generation, _tao in (
    ("TLT 3.0", "tlt detectnet_v2"),
    ("3.21.08", "tao detectnet_v2"),
    ("22.02", "tao detectnet_v2"),
):
    _detectnet(_generation, _tao, key="-k $KEY", weights=".tlt", infers_into="-o", images="testing/image_2")
    _retrained = f"$USER_EXPERIMENT_DIR/{RETRAIN}/weights/resnet18_detector_pruned.tlt"
    _add(
        _generation,
        "detectnet_v2 export",
        f"!{_tao} export \\\n                  -m {_retrained} \\\n"
        f"                  -o {_FINAL}/resnet18_detector.etlt \\\n                  -k $KEY",
        model=f"U/{RETRAIN}/weights/resnet18_detector_pruned.tlt",
        output="U/experiment_dir_final/resnet18_detector.etlt",
        key="tlt_encode",
    )
    _add(  # -m: how many batches
        _generation,
        "detectnet_v2 calibration_tensorfile",
        f"!{_tao} calibration_tensorfile -e $SPECS_DIR/detectnet_v2_retrain_resnet18_kitti.txt \\\n"
        "                                         -m 10 \\\n"
        f"                                         -o {_FINAL}/calibration.tensor",
        spec="S/detectnet_v2_retrain_resnet18_kitti.txt",
        max_batches=10,
        output="U/experiment_dir_final/calibration.tensor",
    )
    _add(
        _generation,
        "detectnet_v2 export",
        f"!{_tao} export \\\n                  -m {_retrained} \\\n"
        f"                  -o {_FINAL}/resnet18_detector.etlt \\\n"
        "                  -k $KEY  \\\n"
        f"                  --cal_data_file {_FINAL}/calibration.tensor \\\n"
        "                  --data_type int8 \\\n                  --batches 10 \\\n"
        "                  --batch_size 4 \\\n                  --max_batch_size 4\\\n"
        f"                  --engine_file {_FINAL}/resnet18_detector.trt.int8 \\\n"
        f"                  --cal_cache_file {_FINAL}/calibration.bin \\\n                  --verbose",
        model=f"U/{RETRAIN}/weights/resnet18_detector_pruned.tlt",
        output="U/experiment_dir_final/resnet18_detector.etlt",
        key="tlt_encode",
        cal_data_file="U/experiment_dir_final/calibration.tensor",
        data_type="int8",
        batch_size=4,
        max_batch_size=4,
        engine_file="U/experiment_dir_final/resnet18_detector.trt.int8",
        cal_cache_file="U/experiment_dir_final/calibration.bin",
        verbose=True,
    )
    _add(
        _generation,
        "detectnet_v2 export",
        f"!{_tao} export \\\n"
        f"                  -m $USER_EXPERIMENT_DIR/{RETRAIN}_qat/weights/resnet18_detector_pruned_qat.tlt \\\n"
        f"                  -o {_FINAL}/resnet18_detector_qat.etlt \\\n                  -k $KEY  \\\n"
        "                  --data_type int8 \\\n                  --batch_size 64 \\\n"
        "                  --max_batch_size 64\\\n"
        f"                  --engine_file {_FINAL}/resnet18_detector_qat.trt.int8 \\\n"
        f"                  --cal_cache_file {_FINAL}/calibration_qat.bin \\\n                  --verbose",
        model=f"U/{RETRAIN}_qat/weights/resnet18_detector_pruned_qat.tlt",
        output="U/experiment_dir_final/resnet18_detector_qat.etlt",
        key="tlt_encode",
        data_type="int8",
        batch_size=64,
        max_batch_size=64,
        engine_file="U/experiment_dir_final/resnet18_detector_qat.trt.int8",
        cal_cache_file="U/experiment_dir_final/calibration_qat.bin",
        verbose=True,
    )
    _add(  # -o: tensors, -e: the engine, -m: its largest batch, -b: the calibration's; with two odd blanks
        _generation,
        "converter",
        f"!{_tao.partition(' ')[0]} converter {_FINAL}/resnet18_detector.etlt \\\n"
        "                   -k $KEY \\\n"
        f"                    -c {_FINAL}/calibration.bin \\\n"
        "                   -o output_cov/Sigmoid,output_bbox/BiasAdd \\\n"
        "                   -d 3,384,1248 \\\n                   -i nchw \\\n                   -m 64 \\\n"
        f"                   -t int8 \\\n                   -e {_FINAL}/resnet18_detector.trt \\\n"
        "                   -b 4",
        model="U/experiment_dir_final/resnet18_detector.etlt",
        key="tlt_encode",
        cal_cache_file="U/experiment_dir_final/calibration.bin",
        output_names=("output_cov/Sigmoid", "output_bbox/BiasAdd"),
        input_dims=(3, 384, 1248),
        max_batch_size=64,
        data_type="int8",
        output="U/experiment_dir_final/resnet18_detector.trt",
        batch_size=4,
    )
    _add(
        _generation,
        "detectnet_v2 evaluate",
        f"!{_tao} evaluate -e $SPECS_DIR/detectnet_v2_retrain_resnet18_kitti_qat.txt \\\n"
        f"                           -m {_FINAL}/resnet18_detector_qat.trt.int8 \\\n"
        "                           -f tensorrt",
        spec="S/detectnet_v2_retrain_resnet18_kitti_qat.txt",
        model="U/experiment_dir_final/resnet18_detector_qat.trt.int8",
        framework="tensorrt",
    )
    for _spec, _folder in (("etlt", "etlt_infer_testing"), ("etlt_qat", "tlt_infer_testing_qat")):
        _add(
            _generation,
            "detectnet_v2 inference",
            f"!{_tao} inference -e $SPECS_DIR/detectnet_v2_inference_kitti_{_spec}.txt \\\n"
            f"                            -o $USER_EXPERIMENT_DIR/{_folder} \\\n"
            "                            -i $DATA_DOWNLOAD_DIR/testing/image_2 \\\n"
            "                            -k $KEY",
            spec=f"S/detectnet_v2_inference_kitti_{_spec}.txt",
            results_dir=f"U/{_folder}",
            image_dir="D/testing/image_2",
            key="tlt_encode",
        )


def _detectnet_engines(
    generation: str, tao: str, deploy: str, *, key: str, weights: str, exported: str
) -> None:
    """Exports and engines where ``tao deploy`` builds them."""
    keyed: dict[str, Any] = {"key": "tlt_encode"} if key else {}
    keyed_line = f"                  {key}  \\\n" if key else ""
    for qat in (False, True):
        end, more = ("_qat", "_qat") if qat else ("", "")
        spec, model = f"detectnet_v2_retrain_resnet18_kitti{end}.txt", f"resnet18_detector{end}"
        trained = f"{RETRAIN}{end}/weights/resnet18_detector_pruned{end}{weights}"
        _add(
            generation,
            "detectnet_v2 export",
            f"!{tao} export \\\n                  -m $USER_EXPERIMENT_DIR/{trained} \\\n"
            f"                  -e $SPECS_DIR/{spec} \\\n"
            f"                  -o {_FINAL}/{model}{exported} \\\n"
            + keyed_line
            + (f"                  --cal_json_file {_FINAL}/calibration_qat.json \\\n" if qat else "")
            + ("" if key else "                  --onnx_route tf2onnx \\\n")
            + ("                  --verbose \\\n" if qat else "")
            + "                  --gen_ds_config",
            model=f"U/{trained}",
            spec=f"S/{spec}",
            output=f"U/experiment_dir_final/{model}{exported}",
            gen_ds_config=True,
            **({} if key else {"onnx_route": "tf2onnx"}),
            **(
                {"cal_json_file": "U/experiment_dir_final/calibration_qat.json", "verbose": True}
                if qat
                else {}
            ),
            **keyed,
        )
        _add(
            generation,
            "deploy detectnet_v2 gen_trt_engine",
            f"!{deploy} gen_trt_engine \\\n                  -m {_FINAL}/{model}{exported} \\\n"
            + keyed_line
            + "                  --data_type int8 \\\n"
            + ("" if qat else "                  --batches 10 \\\n")
            + f"                  --batch_size {64 if qat else 4} \\\n"
            "                  --max_batch_size 64\\\n"
            f"                  --engine_file {_FINAL}/{model}.trt.int8 \\\n"
            f"                  --cal_cache_file {_FINAL}/calibration{more}.bin \\\n"
            + (f"                  --cal_json_file {_FINAL}/calibration_qat.json \\\n" if qat else "")
            + f"                  -e $SPECS_DIR/{spec} \\\n"
            + ("" if key else f"                  --results_dir {_FINAL} \\\n")
            + "                  --verbose",
            model=f"U/experiment_dir_final/{model}{exported}",
            data_type="int8",
            batch_size=64 if qat else 4,
            max_batch_size=64,
            engine_file=f"U/experiment_dir_final/{model}.trt.int8",
            cal_cache_file=f"U/experiment_dir_final/calibration{more}.bin",
            spec=f"S/{spec}",
            results_dir="U/experiment_dir_final",  # in 4.0 the engine's folder
            verbose=True,
            **({"cal_json_file": "U/experiment_dir_final/calibration_qat.json"} if qat else {}),
            **keyed,
        )
        folder = "tlt_infer_testing_qat" if qat else "etlt_infer_testing"
        images = "testing/image_2" if key else "test_samples"
        _add(
            generation,
            "deploy detectnet_v2 inference",
            f"!{deploy} inference -e $SPECS_DIR/detectnet_v2_inference_kitti_etlt{end}.txt \\\n"
            f"                                   -m {_FINAL}/{model}.trt.int8 \\\n"
            f"                                   -r $USER_EXPERIMENT_DIR/{folder} \\\n"
            f"                                   -i $DATA_DOWNLOAD_DIR/{images} \\\n"
            "                                   -b 4",
            spec=f"S/detectnet_v2_inference_kitti_etlt{end}.txt",
            model=f"U/experiment_dir_final/{model}.trt.int8",
            results_dir=f"U/{folder}",
            image_dir=f"D/{images}",
            batch_size=4,
        )
    _add(
        generation,
        "deploy detectnet_v2 evaluate",
        f"!{deploy} evaluate -e $SPECS_DIR/detectnet_v2_retrain_resnet18_kitti_qat.txt \\\n"
        f"                                  -m {_FINAL}/resnet18_detector_qat.trt.int8 \\\n"
        "                                  -i $DATA_DOWNLOAD_DIR/training/images_val \\\n"
        "                                  -l $DATA_DOWNLOAD_DIR/training/labels_val"
        + ("" if key else f" \\\n                                  -r $USER_EXPERIMENT_DIR/{RETRAIN}_qat/"),
        spec="S/detectnet_v2_retrain_resnet18_kitti_qat.txt",
        model="U/experiment_dir_final/resnet18_detector_qat.trt.int8",
        image_dir="D/training/images_val",
        label_dir="D/training/labels_val",
        results_dir="U/experiment_dir_final" if key else f"U/{RETRAIN}_qat/",
    )


_detectnet("4.0", "tao detectnet_v2", key="-k $KEY", weights=".tlt", infers_into="-o", images="test_samples")
_detectnet_engines(
    "4.0", "tao detectnet_v2", "tao-deploy detectnet_v2", key="-k $KEY", weights=".tlt", exported=".etlt"
)
_detectnet(
    "5.x",
    "tao model detectnet_v2",
    key="",
    weights=".hdf5",
    infers_into="-r",
    images="test_samples",
    results="$USER_EXPERIMENT_DIR/",
)
_detectnet_engines(
    "5.x", "tao model detectnet_v2", "tao deploy detectnet_v2", key="", weights=".hdf5", exported=".onnx"
)


def _ssd(
    generation: str,
    tao: str,
    *,
    gpu: str,
    key: str,
    weights: str,
    family: str = "a",
    epoch: str = "080",
    qat: bool = False,
) -> None:
    """Trainings, evaluations, pruning and inference; for 5.x a second time with quantisation, in the same folders."""
    keyed: dict[str, Any] = {"key": "nvidia_tlt"} if key else {}
    last = f" \\\n               {key}" if key else ""
    experiment, data = (
        ("$EXPERIMENT_DIR", "$DATA_DIR") if family == "c" else ("$USER_EXPERIMENT_DIR", "$DATA_DOWNLOAD_DIR")
    )
    pretrained = "pretrained_resnet18/pretrained_object_detection_vresnet18/resnet_18.hdf5"
    pruned = f"{PRUNED}/ssd_resnet18_pruned{weights}"
    end = "_qat" if qat else ""
    common: dict[str, Any] = {"gpu_index": [0], **keyed}
    for spec, folder, model in (("train", UNPRUNED, pretrained), ("retrain", RETRAIN, pruned)):
        _add(
            generation,
            "ssd train",
            f"print('Training: see --gpus.')\n!{tao} train --gpus 1 {gpu} \\\n"
            f"               -e $SPECS_DIR/ssd_{spec}_resnet18_kitti{end}.txt \\\n"
            f"               -r {experiment}/{folder}{last} \\\n               -m {experiment}/{model}"
            + (" \\\n               --use_multiprocessing" if qat else ""),
            family=family,
            spec=f"S/ssd_{spec}_resnet18_kitti{end}.txt",
            results_dir=f"U/{folder}",
            model=f"U/{model}",
            **({"use_multiprocessing": True} if qat else {}),
            **common,
        )
        _add(
            generation,
            "ssd evaluate",
            f"!{tao} evaluate {gpu} \\\n                  -e $SPECS_DIR/ssd_{spec}_resnet18_kitti{end}.txt \\\n"
            f"                  -m {experiment}/{folder}/weights/ssd_resnet18_epoch_$EPOCH{weights}{last}",
            family=family,
            spec=f"S/ssd_{spec}_resnet18_kitti{end}.txt",
            model=f"U/{folder}/weights/ssd_resnet18_epoch_{epoch}{weights}",
            **common,
        )
    _add(
        generation,
        "ssd prune",
        f"!{tao} prune {gpu} \\\n"
        f"               -m {experiment}/{UNPRUNED}/weights/ssd_resnet18_epoch_$EPOCH{weights} \\\n"
        f"               -o {experiment}/{pruned} \\\n"
        f"               -eq intersection \\\n               -pth 0.1{last}",
        family=family,
        model=f"U/{UNPRUNED}/weights/ssd_resnet18_epoch_{epoch}{weights}",
        output=f"U/{pruned}",
        equalization_criterion="intersection",
        **common,
    )
    # Up to 4.0 pictures and labels have folders of their own, from 5.0 on one that holds both.
    _add(
        generation,
        "ssd inference",
        f"!{tao} inference {gpu} -i {data}/test_samples \\\n"
        + (f"                   -o {experiment}/ssd_infer_images \\\n" if key else "")
        + f"                   -e $SPECS_DIR/ssd_retrain_resnet18_kitti{end}.txt \\\n"
        f"                   -m {experiment}/{RETRAIN}/weights/ssd_resnet18_epoch_$EPOCH{weights} \\\n"
        + (
            f"                   -l {experiment}/ssd_infer_labels \\\n                   {key} "
            if key
            else f"                   -r {experiment}/"
        ),
        family=family,
        image_dir="D/test_samples",
        spec=f"S/ssd_retrain_resnet18_kitti{end}.txt",
        model=f"U/{RETRAIN}/weights/ssd_resnet18_epoch_{epoch}{weights}",
        **(
            {"image_output_dir": "U/ssd_infer_images", "label_output_dir": "U/ssd_infer_labels"}
            if key
            else {"results_dir": "U/"}
        ),
        **common,
    )


_EQUALS, _APART = "--gpu_index=$GPU_INDEX", "--gpu_index $GPU_INDEX"
for _generation, _tao in (
    ("TLT 3.0", "tlt ssd"),
    ("3.21.08", "tao ssd"),
    ("22.02", "tao ssd"),
    ("4.0", "tao ssd"),
    ("5.x", "tao model ssd"),
):
    _five = _generation == "5.x"
    _ssd(
        _generation,
        _tao,
        gpu=_APART if _five else _EQUALS,
        key="" if _five else "-k $KEY",
        weights=".hdf5" if _five else ".tlt",
    )
    _add(
        _generation,
        "ssd dataset_convert",
        f"!{_tao} dataset_convert {_APART if _five else ''} \\\n"
        "         -d $SPECS_DIR/ssd_tfrecords_kitti_train.txt \\\n"
        f"         -o $DATA_DOWNLOAD_DIR/{'ssd/' if _five else ''}tfrecords/kitti_train"
        + (" \\\n         -r $USER_EXPERIMENT_DIR/" if _five else ""),
        spec="S/ssd_tfrecords_kitti_train.txt",
        output=f"D/{'ssd/' if _five else ''}tfrecords/kitti_train",
        **({"results_dir": "U/", "gpu_index": [0]} if _five else {}),
    )
_ssd("5.x", "tao model ssd", gpu=_APART, key="", weights=".hdf5", qat=True)

_WEIGHTS = f"$USER_EXPERIMENT_DIR/{RETRAIN}/weights/ssd_resnet18_epoch_$EPOCH"
for _generation in ("3.21.08", "22.02"):
    for _int8 in (False, True):  # the second is what readers are told to uncomment
        _add(
            _generation,
            "ssd export",
            f"!tao ssd export --gpu_index=$GPU_INDEX \\\n                -m {_WEIGHTS}.tlt{'  ' if _int8 else ' '}\\\n"
            "                -k $KEY \\\n"
            "                -o $USER_EXPERIMENT_DIR/export/ssd_resnet18_epoch_$EPOCH.etlt \\\n"
            "                -e $SPECS_DIR/ssd_retrain_resnet18_kitti.txt \\\n"
            + (
                "                --cal_image_dir  $USER_EXPERIMENT_DIR/data/testing/image_2 \\\n"
                "                --data_type int8 \\\n                --batch_size 16 \\\n"
                "                --batches 10 \\\n"
                "                --cal_cache_file $USER_EXPERIMENT_DIR/export/cal.bin  \\\n"
                "                --cal_data_file $USER_EXPERIMENT_DIR/export/cal.tensorfile"
                if _int8
                else "                --batch_size 16 \\\n                --data_type fp32"
            ),
            gpu_index=[0],
            model=f"U/{RETRAIN}/weights/ssd_resnet18_epoch_080.tlt",
            key="nvidia_tlt",
            output="U/export/ssd_resnet18_epoch_080.etlt",
            spec="S/ssd_retrain_resnet18_kitti.txt",
            batch_size=16,
            **(
                {
                    "cal_image_dir": "U/data/testing/image_2",
                    "data_type": "int8",
                    "cal_cache_file": "U/export/cal.bin",
                    "cal_data_file": "U/export/cal.tensorfile",
                }
                if _int8
                else {}
            ),
        )
    for _type in ("fp32", "fp16", "int8"):
        _calibrated = _type == "int8"
        _add(  # the model comes last
            _generation,
            "converter",
            "!tao converter -k $KEY \\\n                   -d 3,300,300 \\\n                   -o NMS \\\n"
            + ("                   -c $USER_EXPERIMENT_DIR/export/cal.bin \\\n" if _calibrated else "")
            + "                   -e $USER_EXPERIMENT_DIR/export/trt.engine \\\n"
            + ("                   -b 8 \\\n" if _calibrated else "")
            + f"                   -m 16 \\\n                   -t {_type} \\\n                   -i nchw \\\n"
            "                   $USER_EXPERIMENT_DIR/export/ssd_resnet18_epoch_$EPOCH.etlt",
            key="nvidia_tlt",
            input_dims=(3, 300, 300),
            output_names=("NMS",),
            output="U/export/trt.engine",
            max_batch_size=16,
            model="U/export/ssd_resnet18_epoch_080.etlt",
            **({} if _type == "fp32" else {"data_type": _type}),
            **({"cal_cache_file": "U/export/cal.bin"} if _calibrated else {}),
        )
    _add(
        _generation,
        "ssd inference",
        "!tao ssd inference --gpu_index=$GPU_INDEX \\\n"
        "                   -m $USER_EXPERIMENT_DIR/export/trt.engine \\\n"
        "                   -e $SPECS_DIR/ssd_retrain_resnet18_kitti.txt \\\n"
        "                   -i $DATA_DOWNLOAD_DIR/test_samples \\\n"
        "                   -o $USER_EXPERIMENT_DIR/ssd_infer_images \\\n                   -t 0.4",
        gpu_index=[0],
        model="U/export/trt.engine",
        spec="S/ssd_retrain_resnet18_kitti.txt",
        image_dir="D/test_samples",
        image_output_dir="U/ssd_infer_images",
        threshold=0.4,
    )


def _ssd_engines(generation: str, tao: str, deploy: str, *, gpu: str, key: str) -> None:
    keyed: dict[str, Any] = {"gpu_index": [0], **({"key": "nvidia_tlt"} if key else {})}
    keyed_line = f"                {key} \\\n" if key else ""
    weights, exported = (".tlt", ".etlt") if key else (".hdf5", ".onnx")
    for qat in (False,) if key else (False, True):
        end = "_qat" if qat else ""
        spec = f"ssd_retrain_resnet18_kitti{end}.txt"
        _add(
            generation,
            "ssd export",
            f"!{tao} export {gpu} \\\n                -m {_WEIGHTS}{weights}{'  ' if qat else ' '}\\\n"
            + keyed_line
            + f"                -o $USER_EXPERIMENT_DIR/export/ssd_resnet18_epoch_$EPOCH{exported} \\\n"
            f"                -e $SPECS_DIR/{spec} \\\n"
            + (
                "                --cal_json_file $USER_EXPERIMENT_DIR/export/cal.json \\\n"
                if qat
                else "                --batch_size 16 \\\n"
            )
            + "                --gen_ds_config",
            model=f"U/{RETRAIN}/weights/ssd_resnet18_epoch_080{weights}",
            output=f"U/export/ssd_resnet18_epoch_080{exported}",
            spec=f"S/{spec}",
            gen_ds_config=True,
            **({"cal_json_file": "U/export/cal.json"} if qat else {"batch_size": 16}),
            **keyed,
        )
        for kind in ("qat",) if qat else ("fp32", "int8"):
            flags = {
                "fp32": "--data_type fp32 \\\n",
                "int8": "--cal_image_dir $DATA_DOWNLOAD_DIR/testing/image_2 \\\n"
                "                               --data_type int8 \\\n"
                "                               --batches 10 \\\n"
                "                               --cal_cache_file $USER_EXPERIMENT_DIR/export/cal.bin \\\n"
                "                               --cal_data_file $USER_EXPERIMENT_DIR/export/cal.tensorfile \\\n",
                "qat": "--data_type int8 \\\n"
                "                               --cal_json_file $USER_EXPERIMENT_DIR/export/cal.json \\\n"
                "                               --cal_cache_file $USER_EXPERIMENT_DIR/export/cal.bin \\\n",
            }[kind]
            sets: dict[str, Any] = {
                "fp32": {},
                "int8": {
                    "cal_image_dir": "D/testing/image_2",
                    "data_type": "int8",
                    "cal_cache_file": "U/export/cal.bin",
                    "cal_data_file": "U/export/cal.tensorfile",
                },
                "qat": {
                    "data_type": "int8",
                    "cal_json_file": "U/export/cal.json",
                    "cal_cache_file": "U/export/cal.bin",
                },
            }[kind]
            engine = "trt.int8.qat.engine" if qat else "trt.engine"
            _add(
                generation,
                "deploy ssd gen_trt_engine",
                f"!{deploy} gen_trt_engine {gpu} \\\n"
                f"                   -m $USER_EXPERIMENT_DIR/export/ssd_resnet18_epoch_$EPOCH{exported} \\\n"
                + keyed_line
                + f"                               -e $SPECS_DIR/{spec} \\\n"
                f"                               --engine_file $USER_EXPERIMENT_DIR/export/{engine} \\\n"
                f"                               {flags}"
                "                               --max_batch_size 16 \\\n"
                "                               --batch_size 16"
                + (
                    ""
                    if key
                    else " \\\n                               --results_dir $USER_EXPERIMENT_DIR/export"
                ),
                model=f"U/export/ssd_resnet18_epoch_080{exported}",
                spec=f"S/{spec}",
                engine_file=f"U/export/{engine}",
                max_batch_size=16,
                batch_size=16,
                results_dir="U/export",
                **sets,
                **keyed,
            )
        _add(
            generation,
            "deploy ssd inference",
            f"!{deploy} inference {gpu} \\\n"
            f"                          -m $USER_EXPERIMENT_DIR/export/{'trt.int8.qat' if qat else 'trt'}.engine \\\n"
            f"                          -e $SPECS_DIR/{spec} \\\n"
            "                          -i $DATA_DOWNLOAD_DIR/test_samples \\\n"
            "                          -r $USER_EXPERIMENT_DIR/ssd_infer_images \\\n"
            "                          -t 0.4",
            gpu_index=[0],
            model=f"U/export/{'trt.int8.qat' if qat else 'trt'}.engine",
            spec=f"S/{spec}",
            image_dir="D/test_samples",
            results_dir="U/ssd_infer_images",
            threshold=0.4,
        )


_ssd_engines("4.0", "tao ssd", "tao-deploy ssd", gpu=_EQUALS, key="-k $KEY")
_ssd_engines("5.x", "tao model ssd", "tao deploy ssd", gpu=_APART, key="")

# The Colab edition of 4.0 and of 5.0: no container, so paths are those of this machine.
for _generation, _tao in (("Colab 4.0", "tao ssd"), ("Colab 5.0", "tao model ssd")):
    _ssd(_generation, _tao, gpu=_EQUALS, key="-k $KEY", weights=".tlt", family="c")
    _add(
        _generation,
        "ssd dataset_convert",
        f"!mkdir -p $DATA_DIR/tfrecords && rm -rf $DATA_DIR/tfrecords/*\n!{_tao} dataset_convert \\\n"
        "         -d $SPECS_DIR/ssd_tfrecords_kitti_train.txt \\\n         -o $DATA_DIR/tfrecords/kitti_train",
        family="c",
        spec="S/ssd_tfrecords_kitti_train.txt",
        output="D/tfrecords/kitti_train",
    )

# What the notebooks tell readers to change or uncomment, and how people write the same.
_add(
    "22.02",
    "ssd train",
    "!tao ssd train --gpus 1 --gpu_index=$GPU_INDEX \\\n               -e $SPECS_DIR/ssd_train_resnet18_kitti.txt \\\n"
    "               -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned \\\n               -k $KEY \\\n"
    "               -m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/ssd_resnet18_epoch_001.tlt \\\n"
    "               --initial_epoch 2",
    gpu_index=[0],
    spec="S/ssd_train_resnet18_kitti.txt",
    results_dir="U/experiment_dir_unpruned",
    key="nvidia_tlt",
    model="U/experiment_dir_unpruned/weights/ssd_resnet18_epoch_001.tlt",
    initial_epoch=2,
)
_add(
    "5.x",
    "ssd train",
    "!tao model ssd train --gpus 2 --gpu_index $TRAIN_GPU_INDEX \\\n"
    "               -e $SPECS_DIR/ssd_train_resnet18_kitti.txt \\\n"
    "               -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned",
    gpus=2,
    gpu_index=[0, 1],
    spec="S/ssd_train_resnet18_kitti.txt",
    results_dir="U/experiment_dir_unpruned",
)
_add(  # quoted paths, blanks behind the command and behind a backslash, a comment, an indented cell
    "5.x",
    "ssd evaluate",
    "if True:\n    !tao model ssd evaluate --gpu_index 0   \\  \n"
    '        -e "$SPECS_DIR/ssd train.txt" \\\n'
    "        -m '/workspace/tao-experiments/ssd/my model.hdf5'   # mine  ",
    gpu_index=[0],
    spec="S/ssd train.txt",
    model="U/my model.hdf5",
)
_add(  # family B's places
    "6.x",
    "ssd train",
    "!tao model ssd train -e $SPECS_DIR/train.txt -r $RESULTS_DIR/unpruned -m /data/resnet_18.hdf5",
    family="b",
    spec="S/train.txt",
    results_dir="U/results/unpruned",
    model="D/resnet_18.hdf5",
)
