"""Data: KITTI labels, images, TFRecords, their conversion, augmentation, and the batches that the networks get."""
