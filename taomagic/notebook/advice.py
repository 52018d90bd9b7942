"""What to do where a notebook of NVIDIA's downloads something that only its reader can get."""

from __future__ import annotations

from taomagic.notebook.fillings import ADDRESSES

#: NVIDIA's notebooks put the two addresses into these variables first.
_KITTI = frozenset({*ADDRESSES, "URL_IMAGES", "URL_LABELS"})
_KITTI_PAGE = "https://www.cvlibs.net/datasets/kitti/eval_object.php?obj_benchmark=2d"


def on_missing_address(program: str, name: str) -> str:
    """Return what to tell a person whose ``wget`` has an empty variable in place of an address.

    Parameters
    ----------
    program
        ``wget`` or ``curl``.
    name
        The variable.
    """
    if name not in _KITTI:
        return f"${name} is empty, so that {program} has no address. Set it in a cell above."
    return (
        f"${name} is empty, so that {program} has no address: KITTI mails its addresses to whoever asks for them.\n"
        f"  The data: {_KITTI_PAGE} (left colour images, training labels). Then set {' and '.join(ADDRESSES)} in a "
        "cell above, or put data_object_image_2.zip and data_object_label_2.zip into $LOCAL_DATA_DIR.\n"
        "  To try the notebook without them: `%tao samples create $LOCAL_DATA_DIR` draws scenes in KITTI's layout, and "
        "`tao notebook run NOTEBOOK --sample-data` answers all downloads with stand-ins."
    )
