"""Solids: the labelled, textured primitives that a miniature room is a list of, and their packed form for kernels."""

from dataclasses import dataclass, field, replace

import numpy as np

from hicl.pipeline.kernels.raster import BASIN, BOX, CYLINDER, ELLIPSOID, SHEET
from hicl.pipeline.miniature.textures import Material

Span = tuple[float, float]
"""From and to, in metres."""


@dataclass(frozen=True)
class Solid:
    """One primitive: `kind` and `size` as in `kernels.raster`, in metres; `label` is its NYU40 id, or lidarseg's."""

    kind: int
    centre: np.ndarray
    axes: np.ndarray
    size: tuple[float, float, float, float, float]
    label: int
    material: Material

    def moved(self, turn: np.ndarray, shift: np.ndarray) -> "Solid":
        """This solid after x -> turn·x + shift. turn: float64 [3, 3]; shift: float64 [3]."""
        return replace(self, centre=turn @ self.centre + shift, axes=turn @ self.axes)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner (float64 [3] each) of the axis-aligned box round this solid."""
        half = np.array(self.size[:3]) + (np.array([0, self.size[3], 0]) if self.kind == SHEET else 0.0)
        reach = np.abs(self.axes) @ half
        return self.centre - reach, self.centre + reach


def about_z(angle: float) -> np.ndarray:
    """Rotation float64 [3, 3] by `angle` radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def about_x(angle: float) -> np.ndarray:
    """Rotation float64 [3, 3] by `angle` radians about x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _solid(
    kind: int,
    x: Span,
    y: Span,
    z: Span,
    first: float,
    second: float,
    label: int,
    material: Material,
    axes: np.ndarray | None,
) -> Solid:
    (x0, x1), (y0, y1), (z0, z1) = x, y, z
    size = ((x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2, first, second)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2])
    return Solid(kind, centre, np.eye(3) if axes is None else axes, size, label, material)


def block(
    x: Span, y: Span, z: Span, label: int, material: Material, radius: float = 0.0, axes: np.ndarray | None = None
) -> Solid:
    """A box over the intervals x, y, z (metres), its edges rounded by `radius`."""
    radius = min(radius, 0.49 * (x[1] - x[0]), 0.49 * (y[1] - y[0]), 0.49 * (z[1] - z[0]))
    return _solid(BOX, x, y, z, radius, 0.0, label, material, axes)


def drum(
    x: Span, y: Span, z: Span, label: int, material: Material, radius: float = 0.0, axes: np.ndarray | None = None
) -> Solid:
    """An upright elliptic cylinder that fills the intervals x, y, z."""
    return _solid(CYLINDER, x, y, z, radius, 0.0, label, material, axes)


def egg(x: Span, y: Span, z: Span, label: int, material: Material, axes: np.ndarray | None = None) -> Solid:
    """An ellipsoid that fills the intervals x, y, z."""
    return _solid(ELLIPSOID, x, y, z, 0.0, 0.0, label, material, axes)


def sheet(x: Span, y: Span, z: Span, label: int, material: Material, amplitude: float, wavelength: float) -> Solid:
    """A hanging wavy sheet that fills the intervals x and z; y is its mean thickness, before the waves."""
    return _solid(SHEET, x, y, z, amplitude, wavelength, label, material, None)


def basin(x: Span, y: Span, z: Span, label: int, material: Material, wall: float) -> Solid:
    """A tub, open at the top, with walls `wall` metres thick."""
    return _solid(BASIN, x, y, z, wall, 0.0, label, material, None)


@dataclass(frozen=True)
class Packed:
    """Solids as arrays for the kernels; the fields are documented in `kernels.raster` and `kernels.paint`.

    label: int32 [P], NYU40's of rooms, lidarseg's of streets. gloss, glow, rough, retro: float64 [P], the material's.
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    size: np.ndarray
    label: np.ndarray
    texture: np.ndarray
    color: np.ndarray
    detail: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray
    rough: np.ndarray
    retro: np.ndarray
    shape: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (self.kind, self.centre, self.axes, self.size))


def pack(solids: list[Solid]) -> Packed:
    """Bring P solids into the arrays that the kernels read."""
    material = [s.material for s in solids]
    return Packed(
        kind=np.array([s.kind for s in solids], np.int32),
        centre=np.array([s.centre for s in solids], np.float64),
        axes=np.ascontiguousarray([s.axes for s in solids], np.float64),
        size=np.array([s.size for s in solids], np.float64),
        label=np.array([s.label for s in solids], np.int32),
        texture=np.array([m.texture for m in material], np.int32),
        color=np.array([[m.first, m.second] for m in material], np.float64),
        detail=np.array([[m.scale, m.seed] for m in material], np.float64),
        gloss=np.array([m.gloss for m in material], np.float64),
        glow=np.array([m.glow for m in material], np.float64),
        rough=np.array([m.rough for m in material], np.float64),
        retro=np.array([m.retro for m in material], np.float64),
    )
