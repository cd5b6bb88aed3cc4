"""The console command ``mmskip``: the tools, under one name.

Each subcommand runs a file of ``tools/`` as a script, so that the command
and the file are one and the same, also where only a wheel is installed.
"""

import ast
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip import __version__, doctor
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK

#: What a newcomer does first stands first.
COMMANDS = {
    'demo': ('demo', 'train a toy detector, compare it dense and skipping'),
    'doctor': ('', 'say what is installed, what works, what to mend'),
    'stream': ('stream_video', 'run a trained model over a video or camera'),
    'archive': ('archive', 'run a trained model over thousands of videos'),
    'calibrate': ('calibrate', 'choose thresholds from videos, no labels'),
    'tune': ('tune', 'let gates learn from videos, no labels'),
    'benchmark': ('benchmark', 'time a model on frames, dense and skipping'),
    'train': ('train', 'train the model of a config'),
    'test': ('test', 'test the model of a config'),
    'compress': ('compress', 'compress a trained model by SVD'),
}
#: Folders of tools; their own first lines say what they are for.
GROUPS = {
    'analyze': ('analysis', 'compare methods, draw what gates do'),
    'convert-dataset': ('dataset_converters', 'list a data set for training'),
    'convert-model': ('model_converters', 'take over the weights of others'),
    'measure': ('benchmarks', 'time training steps and long streams'),
    'check': ('', 'check what mmskip promises, of models, files, streams'),
    'make-toy': ('', 'write toy data in the layout of a real release'),
}


def tools_folder() -> Path:
    """Find the folder of the tools, in a checkout or in a wheel."""
    return Path(__file__).resolve().parent / '.mim' / 'tools'


def tools_of(group: str) -> dict[str, Path]:
    """Return the tools of a group, by their names in the command."""
    prefix = f'{group.replace("-", "_")}_'
    if not GROUPS[group][0]:
        paths = tools_folder().glob(f'{prefix}*.py')
        names = {path: path.stem.removeprefix(prefix) for path in paths}
    else:
        paths = (tools_folder() / GROUPS[group][0]).glob('*.py')
        names = {path: path.stem for path in paths}
    return {
        name.replace('_', '-'): path
        for path, name in sorted(names.items(), key=lambda item: item[1])
    }


def describe() -> str:
    """Return the text of ``mmskip --help``."""
    lines = [
        'usage: mmskip COMMAND [ARGUMENTS], mmskip COMMAND --help',
        '',
        'Makes video models cheaper by not computing what is redundant.',
        '',
    ]
    lines += [f'  {name:<17}{text}' for name, (_, text) in COMMANDS.items()]
    lines.append('')
    lines += [f'  {name:<17}{text}' for name, (_, text) in GROUPS.items()]
    lines += ['', f'mmskip {__version__}']
    return '\n'.join(lines)


def describe_group(group: str) -> str:
    """Return the text of ``mmskip GROUP --help``."""
    lines = [f'usage: mmskip {group} NAME [ARGUMENTS]', '']
    for name, path in tools_of(group).items():
        tree = ast.parse(path.read_text(encoding='utf-8'))
        text = (ast.get_docstring(tree) or '').partition('\n')[0]
        lines.append(f'  {name:<19}{text}')
    return '\n'.join(lines)


def run_script(path: Path, name: str, arguments: Sequence[str]) -> int:
    """Run a file as ``python FILE ARGUMENTS`` would, under another name.

    Returns:
        Its exit code.
    """
    before = sys.argv, sys.path[:]
    sys.argv = [name, *arguments]
    sys.path.insert(0, str(path.parent))
    try:
        # runpy would put the path of the file in place of the name.
        code = compile(path.read_bytes(), str(path), 'exec')
        exec(code, {'__name__': '__main__', '__file__': str(path)})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    finally:
        sys.argv, sys.path[:] = before
    return EXIT_OK


def refuse(what: str, known: Sequence[str]) -> int:
    """Say that a name is none of those known, and which one may be meant."""
    near = difflib.get_close_matches(what, known, 1)
    meant = f'; did you mean {near[0]}?' if near else ''
    print(
        f'mmskip: error: expected one of {", ".join(known)}, got '
        f'{what!r}{meant}',
        file=sys.stderr,
    )
    return EXIT_MISTAKE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code."""
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ['-h']
    if command in ('-h', '--help'):
        print(describe())
        return EXIT_OK
    if command == '--version':
        print(__version__)
        return EXIT_OK
    if command == 'doctor':
        return doctor.main(rest)
    if command in COMMANDS:
        path = tools_folder() / f'{COMMANDS[command][0]}.py'
        return run_script(path, f'mmskip {command}', rest)
    if command not in GROUPS:
        return refuse(command, [*COMMANDS, *GROUPS])
    tools = tools_of(command)
    name, *rest = rest or ['-h']
    if name in ('-h', '--help'):
        print(describe_group(command))
        return EXIT_OK
    if name.replace('_', '-') not in tools:
        return refuse(name, list(tools))
    path = tools[name.replace('_', '-')]
    return run_script(path, f'mmskip {command} {name}', rest)
