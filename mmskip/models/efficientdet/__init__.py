"""EfficientDet's neck and head, for mmdet's EfficientNet and RetinaNet.

M. Tan, R. Pang, Q. V. Le: "EfficientDet: Scalable and Efficient Object
Detection", CVPR 2020. ``configs/_base_/models/efficientdet_d0.py`` puts a
detector together.
"""
