"""Tables, files and a plot of a benchmark."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmskip.apis.experiments import write_csv, write_json
from mmskip.visualization.figures import new_figure, save_figure

#: MAC reduction and speed-up on HRNet-w32, Skip-Conv (CVPR 2021), Table 2.
PAPER = ((2.51, 1.48), (4.33, 1.91), (7.92, 4.09))


def show(result: dict, num_layers: int) -> None:
    """Print the rows, the break-even points and the slowest layers."""
    console = Console()
    # A table that goes to a file is not cut to 80 columns.
    console.width = max(console.width, 120)
    title = '{config}, {threads} threads, {backend}'.format(**result)
    console.print(_table(title, result['rows']))
    for row in result['best']:
        console.print(
            'best skip against best dense, {pattern} '
            '{active:.1%}: {speed_up:.2f}x'.format(**row)
        )
    for name, share in result['break_even'].items():
        text = 'none' if share is None else f'{share:.0%} active'
        console.print(f'break-even, {name}: {text}')
    layers = sorted(
        result['skip_frame_ms_by_layer'].items(), key=lambda pair: -pair[1]
    )
    for name, ms in layers[:num_layers]:
        console.print(f'{ms:8.3f} ms  {name or "all that is no convolution"}')


def _table(title: str, rows: list[dict]) -> Table:
    columns: dict[str, Callable[[dict], str]] = {
        'pair': lambda r: r['pair'],
        'pattern': lambda r: r['pattern'],
        'active': lambda r: f'{r["active"]:.1%}',
        'macs': lambda r: _number(r['mac_reduction'], 'x'),
        'speed-up': lambda r: _number(r['speed_up'], 'x'),
        'efficiency': lambda r: _number(r['efficiency']),
        'dense ms': lambda r: _number(r['dense_ms']),
        'skip ms': lambda r: _number(r['skip_ms']),
        'CPU time': lambda r: _number(r['cpu_speed_up'], 'x'),
        'share': lambda r: f'{r["share_of_dense"]:.1%}',
        'MiB/stream': lambda r: f'{r["state_bytes"] / 2**20:.1f}',
    }
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _number(value: float | None, unit: str = '') -> str:
    """A number for people."""
    return '-' if value is None else f'{value:.2f}{unit}'


def write(result: dict, folder: Path) -> None:
    """Write CSV, JSON and the plot."""
    write_json(folder / 'benchmark.json', result)
    write_csv(folder / 'benchmark.csv', result['rows'])
    figure, axes = new_figure()
    kinds = {(r['pair'], r['pattern']): None for r in result['rows']}
    for kind in kinds:
        points = [
            (r['mac_reduction'], r['speed_up'])
            for r in result['rows']
            if (r['pair'], r['pattern']) == kind and r['mac_reduction']
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, marker='o', label=', '.join(kind))
    axes.plot(*zip(*PAPER, strict=True), 'kx', label="the paper's, Table 2")
    limits = (1, max(axes.get_xlim()[1], axes.get_ylim()[1]))
    axes.plot(limits, limits, color='0.7', linestyle='--')
    axes.set(xlabel='times fewer MACs', ylabel='speed-up')
    axes.legend()
    save_figure(figure, folder / 'benchmark.png')
