# Skip-Convolutions in Faster R-CNN-R50: a start for videos of your own.
# COCO has no video: here each image is one, and a reference frame. For frames
# of a video remove `video_key`; the folder of an image is then its video.
# The RoI head stays dense: its batch is boxes, not frames.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# The gate's threshold, one for all layers, in units of a layer's output. Ours,
# as a starting point: raise it for fewer MACs, lower it for accuracy.
threshold = 0.05

model = dict(
    type='mmskip.ConvertedModel',
    arch='FasterRCNN',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.OutputNormGate', threshold=threshold),
        )
    ],
)
custom_hooks = [dict(type='mmskip.VideoHook', video_key='img_id')]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
