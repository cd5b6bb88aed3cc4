# Mask R-CNN with a Swin-T on UA-DETRAC, from COCO's weights; linear layers
# skip, too. UA-DETRAC has boxes only, so there is no mask branch.
_base_ = [
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    '../../_base_/datasets/ua_detrac_for_coco.py',
    '../../_base_/conversions/output_norm.py',
]
load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/swin/'
    'mask_rcnn_swin-t-p4-w7_fpn_1x_coco/'
    'mask_rcnn_swin-t-p4-w7_fpn_1x_coco_20210902_120937-9d6b7cfa.pth'
)
head = dict(num_classes=len(_base_.classes))
model = dict(
    type='mmskip.ConvertedModel',
    arch='MaskRCNN',
    conversions=[dict(_base_.conversions[0], linear=True)],
    roi_head=dict(bbox_head=head, mask_roi_extractor=None, mask_head=None),
)
load, _, resize, *others = _base_.train_pipeline
train_pipeline = [load, _base_.load_boxes, resize, *others]
train = dict(_base_.train_dataset, pipeline=train_pipeline)
train_dataloader = dict(dataset=train)
test_pipeline = [load, resize, _base_.load_boxes, _base_.pack]
test = dict(_base_.test_dataset, pipeline=test_pipeline)
val_dataloader = test_dataloader = dict(_base_.test_loader, dataset=test)
val_evaluator = test_evaluator = _base_.evaluators
