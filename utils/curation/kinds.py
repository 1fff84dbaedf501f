"""The kinds of findings and their levels in words: what check_dataset.py's help tells.

Apart from the findings themselves, so that help does not wait for torch.
"""

from __future__ import annotations

LEVELS = {"error": "errors", "leak": "leaks", "doubt": "doubts, for a person to look at"}
# Kind of finding -> its level, and in words
KINDS = {
    "bad_label": ("error", "label files that break the format"),
    "unlabelled_split": ("error", "splits without any label file"),
    "nothing_to_learn": ("error", "training splits without any box, or without any view"),
    "empty_image": ("error", "images of 0 bytes"),
    "unreadable_image": ("error", "files that cannot be read as an image"),
    "damaged_image": ("error", "truncated or damaged images"),
    "shared_label": ("error", "images that share a label file"),
    "unknown_bits": ("error", "splits of 16-bit images that do not say how many bits are stored"),
    "conflict": ("error", "groups of identical pictures whose class or view differs"),
    "shared_group": ("leak", "groups (patients) in more than one split"),
    "shared_clip": ("leak", "clips in more than one split"),
    "shared_file": ("leak", "image files in more than one split"),
    "shared_duplicate": ("leak", "groups of identical pictures in more than one split"),
    "shared_near_duplicate": ("leak", "groups of almost identical pictures in more than one split"),
    "no_example": ("doubt", "splits without an example of a class or a view"),
    "single_view": ("doubt", "splits whose frames all show one view"),
    "missing_view": ("doubt", "labelled frames without a view"),
    "missing_label": ("doubt", "images without a label file (taken as background)"),
    "cut_box": (
        "doubt",
        "label files with boxes that reach far outside of the image (cut off at its edges)",
    ),
    "repeated_row": ("doubt", "label files with identical rows (they count once)"),
    "two_classes": ("doubt", "label files with one box in two classes"),
    "doubtful_line": (
        "doubt",
        "label files that may have lost line breaks, hold keypoints, or outlines that cross "
        "themselves",
    ),
    "orphan_label": ("doubt", "label files without an image"),
    "unmatched_name": ("doubt", "file names that group_pattern or clip_pattern does not match"),
    "deep_image": (
        "doubt",
        "images of 16 bits a channel, all taken to be used, as the key 'bits' does not say",
    ),
    "several_pages": (
        "doubt",
        "images of several pages or pictures (all but the first are ignored)",
    ),
    "grey_image": ("doubt", "images without colour channels"),
    "alpha_image": ("doubt", "images with transparency (ignored)"),
    "extreme_size": ("doubt", "images of extreme size or shape"),
    "repeated_file": (
        "doubt",
        "image files that a split lists more than once (each counts as often)",
    ),
    "duplicate": ("doubt", "groups of identical pictures within a split"),
    "near_duplicate": ("doubt", "groups of almost identical pictures within a split"),
    "view_change": ("doubt", "clips whose view changes"),
    "column_order": ("doubt", "orders of the view columns that are more plausible than cls_names"),
    "rare_pair": ("doubt", "pairs of box class and view that are rare enough to be mistakes"),
}
