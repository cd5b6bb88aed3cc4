import pytest

from mmskip.evaluation import firing_by_stage, stage_of


@pytest.mark.parametrize(
    ('name', 'stage'),
    [
        ('backbone.layer2.0.conv1', 'backbone.layer2'),
        ('backbone.layers.3.0.depthwise_conv.conv', 'backbone.layers.3'),
        ('neck.layers.0.down.1.lateral.conv', 'neck.layers.0'),
        ('neck.fpn_convs.2.conv', 'neck.fpn_convs'),
        ('bbox_head.cls_convs.0.1.conv', 'bbox_head.cls_convs'),
        ('backbone.stage3.0.branches.1.0.conv1', 'backbone.stage3'),
        ('backbone.transition2.2.0.0', 'backbone.transition2'),
        ('head.final_layer', 'head.final_layer'),
        ('backbone.layer2.0.conv1.conv', 'backbone.layer2'),  # of TSN
        ('conv', 'conv'),
    ],
)
def test_stages_of_the_usual_models(name, stage):
    assert stage_of(name) == stage


def test_a_stage_ends_at_a_dot():
    assert stage_of('backbone.layer10', [r'backbone\.layer1']) is None
    assert stage_of('neck2.conv', ['neck']) is None


def count(dense, executed, reference):
    later = dense - reference
    rate = (executed - reference) / later if later else 0.0
    return dict(
        dense=dense,
        executed=executed,
        reference=reference,
        firing_rate=rate,
    )


def test_rates_are_means_over_layers_and_over_macs():
    layers = {
        'a.b.0': count(dense=40, executed=10 + 30, reference=10),
        'a.b.1': count(dense=100, executed=10 + 0, reference=10),
        'a.plain': count(dense=100, executed=100, reference=0),
        'c': count(dense=20, executed=10 + 5, reference=10),
    }
    first, second = firing_by_stage(layers)
    assert first == dict(
        stage='a.b', firing_rate=0.5, mac_share=0.25, layers=2
    )
    assert second == dict(stage='c', firing_rate=0.5, mac_share=0.5, layers=1)


def test_layers_of_no_stage_are_left_out():
    layers = {'a.b': count(20, 15, 10), 'c.d': count(20, 15, 10)}
    assert [s['stage'] for s in firing_by_stage(layers, ['c'])] == ['c']
