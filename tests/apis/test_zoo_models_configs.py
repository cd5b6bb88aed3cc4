import pytest

from mmskip.apis import UserError, config_paths, group_models
from mmskip.apis import zoo_models as configs
from mmskip.apis.zoo_models import inner_model, model_key

PLAIN = dict(type='A', backbone=dict(depth=18), head=dict(num_classes=80))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Takes the place of a host's configs."""
    monkeypatch.setattr(configs, 'configs_of', lambda host: tmp_path)
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_configs_of_one_model_are_one(folder):
    write(folder / '_base_' / 'a.py', "model = dict(type='Base')")
    write(folder / 'a' / 'one.py', "model = dict(type='A')")
    write(folder / 'a' / 'two.py', "model = dict(type='A', test_cfg=dict())")
    write(folder / 'a' / 'wide.py', "model = dict(type='A', width=2)")
    write(folder / 'b' / 'last.py', "model = dict(type='B')")
    write(folder / 'b' / 'schedule.py', 'lr = 1')
    write(folder / 'b' / 'broken.py', '1 / 0')

    models = group_models('host', config_paths('host'))

    assert [model.configs for model in models] == [
        ('a/one.py', 'a/two.py'),
        ('b/broken.py',),
        ('a/wide.py',),
        ('b/last.py',),
    ]
    assert 'ZeroDivisionError' in models[1].problem


def test_a_pattern_that_no_path_contains_is_refused(folder):
    write(folder / 'a.py', 'lr = 1')

    with pytest.raises(UserError, match="contains 'b'"):
        config_paths('host', 'b')


@pytest.mark.parametrize(
    'other',
    [
        dict(PLAIN, train_cfg=dict(a=1), pretrained='url'),
        dict(PLAIN, backbone=dict(depth=18, frozen_stages=1)),
        dict(PLAIN, head=dict(num_classes=3)),
    ],
)
def test_what_does_not_matter_in_inference_makes_no_other_model(other):
    assert model_key(other) == model_key(PLAIN)


@pytest.mark.parametrize(
    'other',
    [
        dict(PLAIN, backbone=dict(depth=50)),
        dict(PLAIN, neck=dict(type='FPN')),
        dict(PLAIN, loss_cls=dict(type='L', use_sigmoid=True)),
    ],
)
def test_what_does_matter_makes_another(other):
    assert model_key(other) != model_key(PLAIN)


def test_a_tracker_is_the_detector_that_it_stands_on():
    tracker = dict(type='ByteTrack', detector=PLAIN, tracker=dict(a=1))

    assert inner_model(tracker) is PLAIN
