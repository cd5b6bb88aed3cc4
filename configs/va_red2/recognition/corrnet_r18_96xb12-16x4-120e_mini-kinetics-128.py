# CorrNet on R(2+1)D-18 (Table 4.4, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/corrnet_r18.py',
    '../../_base_/datasets/mini_kinetics_clips_128.py',
    '../../_base_/schedules/va_red2_120e.py',
]
