"""Tools that write toy data: options, progress, messages."""

from pathlib import Path

import pytest

from mmskip.apis import UserError
from mmskip.toy.folder import write_toy_data

DEFAULTS = dict(train_videos=3, frames=(4, 8), fps=10.0, size=(64, 64))
TEXT = 'Write it.\n\nAnd more.'


class Maker:
    """Keeps what it is asked for."""

    def __call__(self, root, **options):
        self.root, self.options = root, options
        for _ in range(options['train_videos']):
            options['on_video']()
        return Path(root)


def write(argv, make):
    return write_toy_data(
        'toy', make, TEXT, DEFAULTS, lambda args: args.train_videos, argv
    )


def test_options_reach_the_maker_in_their_types(capsys):
    make = Maker()
    argv = ['there', '--frames', '5', '6', '--fps', '2', '--seed', '7']

    assert write(argv, make) == 0

    del make.options['on_video']
    assert make.root == 'there'
    assert make.options == dict(
        train_videos=3, frames=(5, 6), fps=2.0, size=(64, 64), seed=7
    )
    assert 'toy is in there' in capsys.readouterr().out


def test_help_is_the_first_line_with_defaults(capsys):
    with pytest.raises(SystemExit):
        write(['--help'], Maker())

    out = capsys.readouterr().out
    assert 'Write it.' in out
    assert 'And more' not in out
    assert '--size WIDTH HEIGHT' in out
    assert 'default: 3' in out


@pytest.mark.parametrize('kind', [ValueError, FileExistsError])
def test_what_the_maker_refuses_is_a_message(kind):
    def refuse(*args, **options):
        raise kind('expected something else')

    with pytest.raises(UserError, match='expected something else'):
        write(['there'], refuse)
