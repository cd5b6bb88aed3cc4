# For networks of pointwise and depthwise convolutions, of which the default
# leaves nothing: both are dynamic, too (X3D-M, VA-RED^2, section 4.8). Not
# squeeze-and-excitation, which sees pooled features and costs less than gates.
_base_ = 'dynamic.py'
conversions = [
    dict(_base_.conversions[0], kernels='all', exclude=r'.*\.se_module\..*')
]
