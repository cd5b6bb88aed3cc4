# The dynamic I3D of Table 4.9, see that on X3D-M.
_base_ = [
    'yowo_i3d_inception-v2_1xb8-16x1-50k_jhmdb-224.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmskip.YOWO',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
)
find_unused_parameters = True  # those of frozen gates
load_from = (
    'work_dirs/'
    'va-red2_i3d_inception-v2_96xb12-16x4-120e_kinetics400-256_tuned/'
    'epoch_40.pth'
)
