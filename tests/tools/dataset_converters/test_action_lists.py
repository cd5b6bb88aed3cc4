"""One command for each release, over a release of a few videos."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK

CSV = 'label,youtube_id,time_start,time_end,split,is_cc\n'


@pytest.fixture
def convert(load_tool, tmp_path):
    """Run a converter; say how it ended and what it listed."""

    def run(name, *arguments):
        tool = load_tool(f'dataset_converters/{name}')
        out = tmp_path / 'out'
        code = tool.main([*map(str, arguments), '--out-dir', str(out)])
        return code, {p.name: p.read_text() for p in out.iterdir()}

    return run


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_activitynet(convert, tmp_path, capsys):
    database = {
        name: dict(
            subset=subset,
            annotations=[dict(label=label, segment=[0, 1])],
        )
        for name, subset, label in (
            ('a', 'training', 'Zumba'),
            ('b', 'validation', 'Archery'),
            ('c', 'validation', 'Zumba'),
        )
    }
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(database=database)))
    media = touch(tmp_path / 'frames', 'v_a/image_00001.jpg')
    touch(media, 'b/image_00001.jpg', 'b/image_00002.jpg')
    code, lists = convert('activitynet', path, media, '--rawframes')
    assert code == EXIT_INCOMPLETE
    assert lists == {
        'classes.txt': 'Archery\nZumba\n',
        'train_list_rawframes.txt': 'v_a 1 1\n',
        'val_list_rawframes.txt': 'b 2 0\n',
    }
    out = capsys.readouterr().out
    assert '1 annotated videos are not on disk: c' in out
    assert 'expected 10,024 or 10,014' in out


def test_kinetics400(convert, tmp_path):
    for split, rows in (
        ('train', 'yoga,a,0,10\nabseiling,b,5,15\n'),
        ('val', 'abseiling,c,0,10\nyoga,d,0,10\n'),
    ):
        (tmp_path / f'{split}.csv').write_text(CSV + rows)
    train = touch(tmp_path / 't', 'a_000000_000010.mp4', 'x/b.mkv')
    val = touch(tmp_path / 'v', 'c.mp4', 'd_000000_000010.mp4')
    code, lists = convert(
        'kinetics400',
        *('--train-csv', tmp_path / 'train.csv', '--train-media', train),
        *('--val-csv', tmp_path / 'val.csv', '--val-media', val),
    )
    # A clip named by its id alone is not taken for a clip of other times.
    assert code == EXIT_INCOMPLETE
    assert lists == {
        'classes.txt': 'abseiling\nyoga\n',
        'train_list_videos.txt': 'a_000000_000010.mp4 1\n',
        'val_list_videos.txt': 'd_000000_000010.mp4 1\n',
    }


def test_mini_kinetics_from_lists(convert, tmp_path, capsys):
    (tmp_path / 'train.txt').write_text('a 300 199\n')
    (tmp_path / 'val.txt').write_text('b 300 0\n')
    media = touch(tmp_path / 'k', 'a_000001_000011.mp4', 'b.mp4')
    code, lists = convert(
        'mini_kinetics',
        *('--train', tmp_path / 'train.txt', '--train-media', media),
        *('--val', tmp_path / 'val.txt', '--val-media', media),
    )
    assert code == EXIT_OK
    assert lists == {
        'train_list_videos.txt': 'a_000001_000011.mp4 199\n',
        'val_list_videos.txt': 'b.mp4 0\n',
    }
    assert 'expected 121,215 or 121,069' in capsys.readouterr().out


def test_mini_kinetics_from_csv_needs_the_classes(convert, tmp_path):
    (tmp_path / 'k.csv').write_text(CSV + 'yoga,a,0,10\n')
    both = ('--train', tmp_path / 'k.csv', '--val', tmp_path / 'k.csv')
    media = ('--train-media', tmp_path, '--val-media', tmp_path)
    with pytest.raises(UserError, match='--classes'):
        convert('mini_kinetics', *both, *media)
    (tmp_path / 'c.txt').write_text('yoga\nabseiling\n')
    with pytest.raises(UserError, match='200 different class names'):
        convert(
            'mini_kinetics', *both, *media, '--classes', tmp_path / 'c.txt'
        )


def test_mini_kinetics_from_csv(convert, tmp_path):
    classes = [f'class {n}' for n in range(200)]
    (tmp_path / 'c.txt').write_text('\n'.join(classes))
    rows = [f'class {n},id{n},0,10' for n in range(200)]
    rows.append('another class,other,0,10')
    (tmp_path / 'k.csv').write_text(CSV + '\n'.join(rows))
    names = [f'id{n}_000000_000010.mp4' for n in range(200)]
    media = touch(tmp_path / 'k', *names, 'other_000000_000010.mp4')
    code, lists = convert(
        'mini_kinetics',
        *('--train', tmp_path / 'k.csv', '--train-media', media),
        *('--val', tmp_path / 'k.csv', '--val-media', media),
        *('--classes', tmp_path / 'c.txt'),
    )
    assert code == EXIT_OK
    expected = [f'{name} {n}' for n, name in enumerate(names)]
    assert lists['val_list_videos.txt'].splitlines() == expected
    assert lists['classes.txt'].splitlines() == classes


def test_moments_in_time(convert, tmp_path, capsys):
    (tmp_path / 'c.txt').write_text('clapping,0\nadult+male+singing,1\n')
    (tmp_path / 'train.csv').write_text(
        'clapping/a_1.mp4,clapping,3,1\nadult+male+singing/a_1.mp4,x,2,0\n'
        'clapping/gone.mp4,clapping,3,0\n'
    )
    (tmp_path / 'val.csv').write_text('clapping/v.mp4,clapping,3,0\n')
    train = touch(
        tmp_path / 't', 'clapping/a_1.mp4', 'adult+male+singing/a_1.mp4'
    )
    val = touch(tmp_path / 'v', 'clapping/v.mp4')
    code, lists = convert(
        'moments_in_time',
        *('--training-csv', tmp_path / 'train.csv'),
        *('--training-media', train),
        *('--validation-csv', tmp_path / 'val.csv'),
        *('--validation-media', val, '--categories', tmp_path / 'c.txt'),
    )
    assert code == EXIT_INCOMPLETE
    # A file name that two classes share means two videos.
    assert lists == {
        'classes.txt': 'clapping\nadult+male+singing\n',
        'train_list_videos.txt': (
            'clapping/a_1.mp4 0\nadult+male+singing/a_1.mp4 1\n'
        ),
        'val_list_videos.txt': 'clapping/v.mp4 0\n',
    }
    out = capsys.readouterr().out
    assert '1 annotated videos are not on disk: clapping/gone' in out
    assert 'expected 802,244 videos' in out


def test_thumos14(convert, tmp_path, capsys):
    kinds = [('video_name', object), ('primary_action_index', object)]
    for split, index in (('validation', 8), ('test', 101)):
        videos = np.array([(f'video_{split}_1', index)], dtype=kinds)
        savemat(tmp_path / f'{split}.mat', {f'{split}_videos': videos})
        touch(tmp_path / split, f'video_{split}_1.mp4')
    names = [f'{n} Class{n}' for n in range(1, 102)]
    (tmp_path / 'c.txt').write_text('\n'.join(names))
    options = [
        part
        for split in ('validation', 'test')
        for part in (
            *(f'--{split}', tmp_path / f'{split}.mat'),
            *(f'--{split}-media', tmp_path / split),
        )
    ]
    code, lists = convert(
        'thumos14', *options, '--class-index', tmp_path / 'c.txt'
    )
    assert code == EXIT_OK
    assert len(lists.pop('classes.txt').splitlines()) == 101
    assert lists == {
        'validation_list_videos.txt': 'video_validation_1.mp4 7\n',
        'test_list_videos.txt': 'video_test_1.mp4 100\n',
    }
    assert 'expected 1,010 videos' in capsys.readouterr().out
