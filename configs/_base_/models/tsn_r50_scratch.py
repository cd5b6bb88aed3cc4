# mmaction2's TSN-R50, from scratch as in Table 4.4 of the VA-RED^2 thesis.
# 65.4 GMAC for 16 frames of 224x224, 23.9 M weights (43.4 and 23.9 M there).
_base_ = 'mmaction::_base_/models/tsn_r50.py'
model = dict(
    backbone=dict(pretrained=None),
    cls_head=dict(num_classes=200, average_clips=None),
)
