# DINO on UA-DETRAC, from COCO's weights; linear layers skip, too.
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../../_base_/datasets/ua_detrac_for_coco.py',
    '../../_base_/conversions/output_norm.py',
]
load_from = (
    'https://download.openmmlab.com/mmdetection/v3.0/dino/'
    'dino-4scale_r50_8xb2-12e_coco/'
    'dino-4scale_r50_8xb2-12e_coco_20221202_182705-55b2bba2.pth'
)
model = dict(
    type='mmskip.ConvertedModel',
    arch='DINO',
    conversions=[dict(_base_.conversions[0], linear=True)],
    bbox_head=dict(num_classes=len(_base_.classes)),
)
train = dict(_base_.train_dataset, pipeline=_base_.train_pipeline)
train_dataloader = dict(dataset=train)
test_pipeline = [*_base_.test_pipeline[:-1], _base_.pack]
test = dict(_base_.test_dataset, pipeline=test_pipeline)
val_dataloader = test_dataloader = dict(_base_.test_loader, dataset=test)
val_evaluator = test_evaluator = _base_.evaluators
