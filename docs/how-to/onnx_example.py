"""Boxes and view of a frame from an exported model.

It needs onnxruntime, OpenCV and NumPy, and nothing of this project.

python docs/how-to/onnx_example.py last.onnx frame.jpg    # last.onnx as export.py --nms wrote it
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
about = {key: json.loads(text) for key, text in metadata.items()}
side = about["imgsz"]

# Letterbox: the longer side becomes `side`, and grey fills the shorter one on both ends alike
frame = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
scale = side / max(frame.shape[:2])
small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
height, width = small.shape[:2]
top = (side - height) // 2
left = (side - width) // 2
square = np.full((side, side, 3), 114, np.uint8)
square[top : top + height, left : left + width] = small

images = square.transpose(2, 0, 1)[None] / np.float32(255)
(detections,), (views,) = session.run(["detections", "views"], {"images": images})

found = detections[detections[:, 4] > 0]
boxes_xyxy = (found[:, :4] - [left, top, left, top]) / scale
for box_xyxy, (confidence, number) in zip(boxes_xyxy, found[:, 4:], strict=True):
    print(about["names"][int(number)], confidence, box_xyxy)
print(about["view_names"][views.argmax()], views.max())
