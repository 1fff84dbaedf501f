"""Small pictures for a page."""

import base64

import cv2
import numpy as np

from utils.report.thumbnails import LONGEST_SIDE_PX, thumbnail


def decoded(url: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_a_thumbnail_keeps_shape_and_colours():
    image = np.zeros((300, 600, 3), np.uint8)
    image[:] = 200, 30, 90
    small = decoded(thumbnail(image))
    assert small.shape == (LONGEST_SIDE_PX // 2, LONGEST_SIDE_PX, 3)
    assert np.abs(small.astype(int) - image[0, 0]).max() < 8


def test_small_pictures_are_not_enlarged():
    assert decoded(thumbnail(np.zeros((3, 5, 3), np.uint8))).shape == (3, 5, 3)
