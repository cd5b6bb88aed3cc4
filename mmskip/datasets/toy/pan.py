"""A camera that pans over a picture, while an object crosses the view."""

import cv2
import numpy as np

# Side of the blobs that the texture is made of, in pixels, and their contrast.
OCTAVES = ((2, 12.0), (4, 18.0), (8, 22.0), (32, 30.0))
OBJECT_STEP = (1.5, 1.0)


def pan_video(
    frames: int,
    step: tuple[float, float],
    size: tuple[int, int] = (320, 192),
    noise: float = 0.0,
    seed: int = 0,
) -> list[np.ndarray]:
    """Draw a textured picture as a panning camera sees it.

    Whole steps only cut pixels out; fractions are interpolated. A disc moves
    over the view at a speed of its own.

    Args:
        frames: Number of frames.
        step: By how many pixels the camera moves per frame, (x, y).
        size: Width and height of a frame.
        noise: Standard deviation of the sensor's noise, in grey levels.
        seed: Of the picture and the noise.

    Returns:
        Frames (H, W, 3) uint8, BGR.
    """
    rng = np.random.default_rng(seed)
    travel = [int(np.ceil(abs(s) * (frames - 1))) + 4 for s in step]
    picture = _texture(rng, size[0] + travel[0], size[1] + travel[1])
    # The camera ends where the picture does, whichever way it goes.
    start = [t - 2 if s < 0 else 2 for t, s in zip(travel, step, strict=True)]
    colour = rng.integers(0, 256, 3).tolist()
    radius = max(4, min(size) // 10)
    video = []
    for t in range(frames):
        x, y = (a + s * t for a, s in zip(start, step, strict=True))
        matrix = np.float64([[1, 0, x], [0, 1, y]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(picture, matrix, size, flags=flags)
        centre = [
            int(side / 3 + s * t)
            for side, s in zip(size, OBJECT_STEP, strict=True)
        ]
        cv2.circle(view, centre, radius, colour, -1)
        view = view + noise * rng.standard_normal(view.shape)
        video.append(view.round().clip(0, 255).astype(np.uint8))
    return video


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth random blobs of several sizes, (H, W, 3) float32."""
    picture = np.full((height, width, 3), 128, np.float32)
    for side, contrast in OCTAVES:
        shape = (height // side + 2, width // side + 2, 3)
        blobs = rng.standard_normal(shape).astype(np.float32)
        whole = cv2.resize(
            blobs, None, fx=side, fy=side, interpolation=cv2.INTER_CUBIC
        )
        picture += contrast * whole[:height, :width]
    return picture.clip(0, 255)
