"""From the releases of action data sets to the lists that mmaction2 reads."""

from .activitynet import (
    ACTIVITYNET_SIZES,
    THUMOS14_SIZES,
    read_activitynet,
    read_class_index,
    read_segments,
    read_thumos14,
)
from .class_splits import (
    HMDB51_SIZES,
    ClassSplits,
    read_class_splits,
    read_marks,
    write_hmdb51_lists,
    write_jhmdb_lists,
)
from .kinetics import (
    KINETICS400_SIZES,
    MINI_KINETICS_SIZES,
    MOMENTS_SIZES,
    read_kinetics_csv,
    read_moments_classes,
    read_moments_csv,
    read_video_list,
)
from .lists import (
    ActionEntry,
    ListReport,
    Medium,
    check_size,
    convert_split,
    index_media,
    write_classes,
    write_list,
)

__all__ = [
    'ACTIVITYNET_SIZES',
    'HMDB51_SIZES',
    'KINETICS400_SIZES',
    'MINI_KINETICS_SIZES',
    'MOMENTS_SIZES',
    'THUMOS14_SIZES',
    'ActionEntry',
    'ClassSplits',
    'ListReport',
    'Medium',
    'check_size',
    'convert_split',
    'index_media',
    'read_activitynet',
    'read_class_index',
    'read_class_splits',
    'read_kinetics_csv',
    'read_marks',
    'read_moments_classes',
    'read_moments_csv',
    'read_segments',
    'read_thumos14',
    'read_video_list',
    'write_classes',
    'write_hmdb51_lists',
    'write_jhmdb_lists',
    'write_list',
]
