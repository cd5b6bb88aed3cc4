"""How the hook is configured."""

import pytest
from mmengine.registry import HOOKS

from mmskip.engine import VideoHook


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(inference='frames'), "'stream', 'clip'"),
        (dict(inference='clip'), 'needs num_frames'),
        (dict(num_frames=0), 'num_frames to be a positive int'),
        (dict(reset_interval=-1), 'reset_interval to be a positive int'),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VideoHook(**options)


def test_the_hook_is_built_from_a_config():
    hook = HOOKS.build(dict(type='mmskip.VideoHook', reset_interval=8))

    assert isinstance(hook, VideoHook)
    assert hook.reset_interval == 8
