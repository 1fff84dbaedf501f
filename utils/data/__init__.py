"""From image and label files to batches.

In: a `DataConfig`, which names folders or lists of images. Out: `Split` (which frames, with their
labels), `JointDataset` (letterboxed frames), and batches of tensors. `frame_index` remembers what
the files held, so that the next start reads what has changed. `phantom` draws the embedded data
set. `open_dicom` gives a clinic's clip as frames, `pages` those of GIFs and TIFFs.
"""
