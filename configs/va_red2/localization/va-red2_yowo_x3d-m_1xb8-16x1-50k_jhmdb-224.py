# The dynamic X3D-M of Table 4.9. Its gates come with the backbone, trained
# and fine-tuned on Kinetics, and are frozen with it.
_base_ = [
    'yowo_x3d-m_1xb8-16x1-50k_jhmdb-224.py',
    '../../_base_/conversions/dynamic_all.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmskip.YOWO',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
)
find_unused_parameters = True  # those of frozen gates
load_from = (
    'work_dirs/va-red2_x3d_m_96xb12-16x5-120e_kinetics400-256_tuned/'
    'epoch_40.pth'
)
