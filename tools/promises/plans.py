"""Plans: frames that are counted, odd frames, resets, threads, memory."""

import gc
import statistics
import threading
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import mmskip
from mmskip.plan import propagate_changes

Result = tuple[bool, str]
GATE = dict(type='OutputNormGate', threshold=0.1, order=2, relative=True)
MOST_GROWTH = 60 * 2**20
MOST_DENSE_FRAMES = 1.2


class Boxes(nn.Module):
    """A backbone that is planned, and a head on 100 boxes that is not."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor, note: object = None) -> Tensor:
        """Score 100 boxes."""
        boxes = self.backbone(x).flatten(2)[0].t()[:100]
        if boxes.sum() > 1e9:  # cannot be traced
            return boxes
        return self.head(boxes)


def converted(net: nn.Module) -> nn.Module:
    """The network with norm gates, for use."""
    conversion = mmskip.SkipConversion(GATE, memory='accumulated')
    mmskip.convert(net.eval(), conversion)
    return net


def make_video(frames: int, size: int = 24) -> list[Tensor]:
    """Frames each of which is new in a corner."""
    torch.manual_seed(1)
    video = [torch.randn(1, 3, size, size)]
    for _ in range(frames - 1):
        x = video[-1].clone()
        x[..., 4:10, 4:10] += torch.randn(6, 6)
        video.append(x)
    return video


@torch.no_grad()
def frames_are_counted_at_the_root() -> Result:
    """Frames and MACs per frame are the same with and without a plan."""
    found = []
    for planned in (False, True):
        torch.manual_seed(0)
        net = converted(Boxes())
        if planned:
            propagate_changes(net)
        with mmskip.count_macs(net) as macs, mmskip.stream(net):
            for x in make_video(5):
                net(x)
        found.append((macs.frames, macs.per_frame()))
    held = found[0] == found[1] and found[0][0] == 5
    return held, f'{[frames for frames, _ in found]} frames for 5'


@torch.no_grad()
def plans_outlive_odd_frames() -> Result:
    """After an odd frame and 40 floats the next frames run in a plan."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(
            self, x: Tensor, factor: float = 1.0, note: object = None
        ) -> Tensor:
            return self.conv(x) * factor

    net = converted(Scaled())
    report = propagate_changes(net)
    with mmskip.stream(net):
        for index, x in enumerate(make_video(60)):
            if index in (3, 5):
                net(x, note=object())
            else:
                net(x, 1.0 if index < 10 else float(min(index, 50)))
    rows = report.rows['']
    graphs = len(net.forward._graphs)
    ran = rows['in a plan']
    return (
        ran >= 12 and graphs <= 8,
        f'{ran} frames in a plan, {graphs} graphs',
    )


class Slow(nn.Module):
    """Takes its time, so that others run while it is traced."""

    def __init__(self, layers: int = 60) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Compute layer by layer."""
        for layer in self.layers:
            x = layer(x).relu()
            time.sleep(1e-3)
        return x


def other_threads_run_while_a_stream_begins() -> Result:
    """A model of another thread does not notice that one is traced."""
    errors, calls, done = [], [], threading.Event()
    other, x = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), make_video(1)[0]

    def run_other() -> None:
        while not done.is_set():
            try:
                calls.append(other(x))
            except Exception as error:
                errors.append(type(error).__name__)

    def run_stream() -> None:
        net = converted(Slow())
        propagate_changes(net)
        try:
            with torch.no_grad(), mmskip.stream(net):
                net(x)
                net(x)
        except Exception as error:
            errors.append(type(error).__name__)

    bystander = threading.Thread(target=run_other)
    streams = [threading.Thread(target=run_stream) for _ in range(2)]
    for thread in (bystander, *streams):
        thread.start()
    for thread in streams:
        thread.join()
    done.set()
    bystander.join()
    held = not errors and bool(calls)
    return held, f'{len(errors)} of {len(calls) + len(errors)} calls failed'


@torch.no_grad()
def memory_of_videos_is_given_back() -> Result:
    """30 videos with the garbage collector off take the memory of two."""
    net = converted(Boxes(width=32))
    mmskip.accelerate(net)
    sizes = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(30):
            with mmskip.stream(net):
                for x in make_video(4, 192):
                    net(x)
            sizes.append(_resident())
    finally:
        gc.enable()
    grown = max(sizes) - sizes[1]
    return grown < MOST_GROWTH, f'grown by {grown / 2**20:.0f} MiB'


@torch.no_grad()
def a_reset_costs_little_more_than_a_dense_frame() -> Result:
    """The plan is used again: median of 20 resets, in CPU time."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.SiLU()]
    for _ in range(6):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.SiLU()]
    net = converted(nn.Sequential(*layers))
    mmskip.accelerate(net)
    state, video = mmskip.StreamState(), make_video(3, 96)
    net(video[0])
    with mmskip.stream(net, state):
        for x in video:
            net(x)
    ratios = []
    for _ in range(20):
        dense = _cpu_seconds(lambda: net(video[0]))
        state.reset()
        with mmskip.stream(net, state):
            reset = _cpu_seconds(lambda: net(video[0]))
            net(video[1])
        ratios.append(reset / dense)
    ratio = statistics.median(ratios)
    return ratio <= MOST_DENSE_FRAMES, f'{ratio:.2f} dense frames'


def _cpu_seconds(run) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def _resident() -> int:
    """Bytes of memory that the process holds."""
    lines = Path('/proc/self/status').read_text().splitlines()
    (line,) = (text for text in lines if text.startswith('VmRSS'))
    return 1024 * int(line.split()[1])


CHECKS = (
    frames_are_counted_at_the_root,
    plans_outlive_odd_frames,
    other_threads_run_while_a_stream_begins,
    memory_of_videos_is_given_back,
    a_reset_costs_little_more_than_a_dense_frame,
)
