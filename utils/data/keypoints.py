"""Whether a line of a label file is a box and keypoints, as for pose estimation.

Such a line is `class xc yc w h`, then `x y` or `x y v` a keypoint, where v is 0 (not labelled, the
keypoint is 0 0), 1 (hidden) or 2 (visible). Many of these have an odd number of values and would
pass for an outline, of which `w h` would be the second corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.data.line_breaks import BOX_VALUES, EQUAL, LineKind, crosses_itself, is_rectangle

MARKED_VALUES = 3  # of a keypoint with v
VISIBILITIES = (0, 1, 2)
ROOM = 1.1  # keypoints may lie that far from a box's centre, in halves of its size
FEW_CORNERS = 6  # an outline of no more is seldom hollow
Finding = tuple[LineKind, int]  # and the number of keypoints


def keypoints_in(tokens: Sequence[str]) -> Finding:
    """Whether a line of numbers is a box and keypoints, and how many.

    Args:
        tokens: of the line, each a number.
    """
    values = np.array([float(token) for token in tokens])
    box_xywh = values[1:BOX_VALUES]
    rest = values[BOX_VALUES:]
    is_box = (box_xywh >= 0).all() and (box_xywh <= 1).all() and (box_xywh[2:] > 0).all()
    if len(rest) and is_box:
        if len(rest) % MARKED_VALUES == 0 and _are_marked(rest.reshape(-1, 3), box_xywh):
            return _kind_of_marked(values), len(rest) // MARKED_VALUES
        if len(rest) % 2 == 0 and _are_inside(rest.reshape(-1, 2), box_xywh):
            return _kind_of_unmarked(values[1:].reshape(-1, 2)), len(rest) // 2
    return LineKind.ONE_LINE, 0


def _are_marked(keypoints: np.ndarray, box_xywh: np.ndarray) -> bool:
    """Whether (k, 3) values are x, y and v of keypoints of which one at least is labelled."""
    marks = keypoints[:, 2]
    is_labelled = marks > 0
    if not np.isin(marks, VISIBILITIES).all() or not is_labelled.any():
        return False
    others_are_zero = not keypoints[~is_labelled].any()
    return others_are_zero and _are_inside(keypoints[is_labelled, :2], box_xywh)


def _are_inside(points: np.ndarray, box_xywh: np.ndarray) -> bool:
    return bool((abs(points - box_xywh[:2]) <= ROOM * box_xywh[2:] / 2).all())


def _kind_of_marked(values: np.ndarray) -> LineKind:
    """An outline has pairs of values from 0 to 1, and does not cross itself."""
    has_pairs = len(values) % 2 == 1 and values[1:].max() <= 1
    if has_pairs and not crosses_itself(values[1:].reshape(-1, 2)):
        return LineKind.DOUBTFUL
    return LineKind.SEVERAL_LINES


def _kind_of_unmarked(corners: np.ndarray) -> LineKind:
    """What (k, 2) values are, the first two of which may be a box around all others.

    An outline goes from its first corner to its second, and so seldom leaves that box there.
    """
    if is_rectangle(corners):
        return LineKind.ONE_LINE
    leaves_box = not _are_inside(corners[1], corners[:2].ravel())
    if leaves_box and crosses_itself(corners):
        return LineKind.SEVERAL_LINES
    if leaves_box or (len(corners) <= FEW_CORNERS and not _is_convex(corners)):
        return LineKind.DOUBTFUL
    return LineKind.ONE_LINE


def _is_convex(corners: np.ndarray) -> bool:
    """Whether an outline turns to one side only, or not at all in some corners."""
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    if abs(turns).max() <= EQUAL**2:
        return False
    return bool((turns >= -EQUAL).all() or (turns <= EQUAL).all())
