# R(2+1)D-18 (Tables 4.1 and 4.2, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/r2plus1d_r18.py',
    '../../_base_/datasets/mini_kinetics_clips_128.py',
    '../../_base_/schedules/va_red2_120e.py',
]
