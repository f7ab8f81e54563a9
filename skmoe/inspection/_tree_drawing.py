"""How a tree is painted: bands, boxes for gates, chips for leaves, a key."""

import numpy as np

from skmoe._wording import percent
from skmoe.inspection._tree_page import (
    CHIP,
    FONT,
    LINE,
    MARGIN,
    PAD,
    SMALL,
    TreePage,
    plain,
)

__all__ = ["TreeDrawing"]

INK, FAINT, NEUTRAL = "#222222", "#5c6370", "#8fa3bd"


class TreeDrawing:
    """A page with a tree, and the means to paint it.

    Parameters
    ----------
    display : TreeDisplay
    max_depth : int or None
    output : int
        Which value the colours show.
    cmap : str, Colormap or None
    """

    def __init__(self, display, max_depth, output, cmap):
        self.page = TreePage(display, max_depth)
        self.display = display
        self.colours = _colours(display, output, cmap)

    def draw(self, ax=None):
        """Paint everything; return the axes."""
        import matplotlib.pyplot as plt

        page = self.page
        if ax is None:
            fig = plt.figure(figsize=(page.width / 72.0, page.height / 72.0))
            ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
        ax.set(xlim=(0.0, page.width), ylim=(page.height, 0.0), aspect="equal")
        ax.set_axis_off()
        box, points = ax.get_window_extent(), 72.0 / ax.figure.dpi
        # Points of the page to points on paper.
        self.zoom = points * min(box.width / page.width, box.height / page.height)
        self.ax = ax
        for level, spots in enumerate(page.levels):
            for spot in spots:
                self._bands(spot, page.starts[level + 1])
        for spots in page.levels:
            for spot in spots:
                self._box(spot)
        for spot in page.ends:
            self._end(spot)
        self._notes()
        self.colours.key(self, page.key_top)
        return ax

    def text(self, x, y, text, size, **kwargs):
        """Write a text; sizes are points of the page."""
        kwargs = {"va": "center", "color": INK, "clip_on": False} | kwargs
        return self.ax.text(x, y, plain(text), fontsize=size * self.zoom, **kwargs)

    def rectangle(self, x, y, width, height, *, rounded=0.0, **kwargs):
        """Paint a rectangle."""
        from matplotlib.patches import FancyBboxPatch

        style = f"round,pad=0,rounding_size={rounded}" if rounded else "square,pad=0"
        kwargs = {"linewidth": self.zoom} | kwargs
        self.ax.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle=style, **kwargs)
        )

    def _bands(self, spot, bend):
        """Paint the bands to the children of a gate, and write on them."""
        share, scale = self.display.share, self.page.scale
        right = spot.x + spot.width
        y = spot.y - 0.5 * scale * share[spot.node]
        for child, label in spot.children:
            thick = scale * share[child.node]
            start = y + 0.5 * thick
            y += thick
            self._band(right, start, bend, child, thick)
            if label:
                self.text(
                    0.45 * right + 0.55 * bend,
                    0.42 * start + 0.58 * child.y,
                    label,
                    SMALL if len(label) > 1 else FONT,
                    ha="center",
                    zorder=3,
                    bbox={
                        "facecolor": "white",
                        "edgecolor": "none",
                        "alpha": 0.75,
                        "boxstyle": "round,pad=0.15",
                    },
                )

    def _band(self, x, y, bend, child, thick):
        """Paint one band: a curve up to where the next level begins, then straight."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        middle = 0.5 * (x + bend)
        half = 0.5 * max(thick, 0.6)
        top, bottom = child.y - half, child.y + half
        points = [
            (x, y - half),
            (middle, y - half),
            (middle, top),
            (bend, top),
            (child.x, top),
            (child.x, bottom),
            (bend, bottom),
            (middle, bottom),
            (middle, y + half),
            (x, y + half),
            (x, y - half),
        ]
        codes = [1, 4, 4, 4, 2, 2, 2, 4, 4, 4, 79]
        colour = self.colours.of(child.node)
        self.ax.add_patch(
            PathPatch(
                Path(points, codes), facecolor=_pale(colour, 0.62), edgecolor="none"
            )
        )

    def _box(self, spot):
        """Paint a gate: its share, and the columns it looks at."""
        colour = self.colours.of(spot.node)
        self.rectangle(
            spot.x,
            spot.y - 0.5 * spot.height,
            spot.width,
            spot.height,
            rounded=4.0,
            facecolor=_pale(colour, 0.85),
            edgecolor=colour,
            zorder=2,
        )
        top = spot.y - 0.5 * LINE * len(spot.lines)
        for i, line in enumerate(spot.lines):
            self.text(
                spot.x + PAD,
                top + (i + 0.5) * LINE,
                line,
                FONT,
                weight="bold" if i == 0 else "normal",
                zorder=4,
            )

    def _end(self, spot):
        """Paint a leaf, or a part that is cut off: a chip and lines of text."""
        self.colours.chip(self, spot, self.page.chip_height)
        top = spot.y - 0.5 * spot.height
        for i, line in enumerate(spot.lines):
            self.text(
                spot.x + CHIP + 8.0,
                top + (i + 0.5) * LINE,
                line,
                FONT if i == 0 else SMALL,
                weight="bold" if i == 0 else "normal",
                color=INK if i == 0 else FAINT,
            )

    def _notes(self):
        for i, line in enumerate(self.page.notes):
            y = self.page.foot + (i + 0.5) * LINE
            self.text(MARGIN, y, line, SMALL, color=FAINT)


# -- what the colours mean ---------------------------------------------------------


def _colours(display, output, cmap):
    """Return the colours that fit the values of a display."""
    if display.value is None:
        return _NoColours()
    if display.classifies:
        return _ClassColours(display, cmap or "tab10")
    return _ValueColours(display, output, cmap or "viridis")


class _NoColours:
    """No values are known: all nodes have one colour."""

    def of(self, node):
        return NEUTRAL

    def chip(self, drawing, spot, height):
        drawing.rectangle(
            spot.x,
            spot.y - 0.5 * height,
            CHIP,
            height,
            rounded=4.0,
            facecolor=_pale(NEUTRAL, 0.5),
            edgecolor=NEUTRAL,
            zorder=2,
        )
        share = percent(drawing.display.share[spot.node])
        drawing.text(spot.x + 0.5 * CHIP, spot.y, share, FONT, ha="center", zorder=4)

    def key(self, drawing, top):
        drawing.text(
            MARGIN,
            top + 8.0,
            "Give X to see what the nodes predict.",
            SMALL,
            color=FAINT,
        )


class _ValueColours:
    """Colours by mean prediction."""

    def __init__(self, display, output, cmap):
        from matplotlib import colormaps
        from matplotlib.colors import Normalize

        self.value, self.label = display.value[:, output], display.labels[output]
        leaves = self.value[display.tree.leaves]
        low, high = np.nanmin(leaves), np.nanmax(leaves)
        self.norm = Normalize(low, high if high > low else low + 1.0)
        self.cmap = colormaps[cmap] if isinstance(cmap, str) else cmap

    def of(self, node):
        value = self.value[node]
        return NEUTRAL if np.isnan(value) else self.cmap(self.norm(value))

    def chip(self, drawing, spot, height):
        colour, value = self.of(spot.node), self.value[spot.node]
        drawing.rectangle(
            spot.x,
            spot.y - 0.5 * height,
            CHIP,
            height,
            rounded=4.0,
            facecolor=colour,
            edgecolor=colour,
            zorder=2,
        )
        said = "no rows" if np.isnan(value) else _short(value)
        drawing.text(
            spot.x + 0.5 * CHIP,
            spot.y,
            said,
            FONT,
            ha="center",
            weight="bold",
            color="white" if _luminance(colour) < 0.5 else INK,
            zorder=4,
        )

    def key(self, drawing, top):
        ax, width = drawing.ax, min(150.0, drawing.page.width / 2)
        ramp = self.cmap(np.linspace(0.0, 1.0, 128))[None]
        ax.imshow(
            ramp,
            extent=(MARGIN, MARGIN + width, top + 8.0, top),
            aspect="equal",
            zorder=2,
            interpolation="bilinear",
        )
        page = drawing.page
        ax.set(xlim=(0.0, page.width), ylim=(page.height, 0.0), aspect="equal")
        ends = (
            (MARGIN, self.norm.vmin, "left"),
            (MARGIN + width, self.norm.vmax, "right"),
        )
        for x, value, side in ends:
            drawing.text(x, top + 14.0, _short(value), SMALL, ha=side, color=FAINT)
        drawing.text(
            MARGIN + width + 8.0,
            top + 4.0,
            f"mean prediction of {self.label}",
            SMALL,
            color=FAINT,
        )


class _ClassColours:
    """Colours by the most probable class; chips show the shares of all."""

    def __init__(self, display, cmap):
        from matplotlib import colormaps

        self.value, self.labels = display.value, display.labels
        chosen = colormaps[cmap] if isinstance(cmap, str) else cmap
        count = len(self.labels)
        few = hasattr(chosen, "colors") and count <= len(chosen.colors) <= 20
        places = np.arange(count) if few else np.linspace(0.0, 1.0, count)
        self.colours = [chosen(place) for place in places]

    def of(self, node):
        value = self.value[node]
        if np.isnan(value).any():
            return NEUTRAL
        top = int(value.argmax())
        return _pale(self.colours[top], 0.75 * (1.0 - value[top]))

    def chip(self, drawing, spot, height):
        x = spot.x
        for share, colour in zip(self.value[spot.node], self.colours, strict=True):
            if share > 0:
                drawing.rectangle(
                    x,
                    spot.y - 0.5 * height,
                    share * CHIP,
                    height,
                    facecolor=colour,
                    edgecolor="none",
                    zorder=2,
                )
                x += share * CHIP
        drawing.rectangle(
            spot.x,
            spot.y - 0.5 * height,
            CHIP,
            height,
            facecolor="none",
            edgecolor=FAINT,
            zorder=3,
        )

    def key(self, drawing, top):
        for (x, y, label), colour in zip(drawing.page.key, self.colours, strict=True):
            drawing.rectangle(
                x, y, 10.0, 8.0, facecolor=colour, edgecolor="none", zorder=2
            )
            drawing.text(x + 14.0, y + 4.0, label, SMALL, color=FAINT)


def _pale(colour, amount):
    """Mix a colour with white."""
    from matplotlib.colors import to_rgb

    return tuple(amount + (1.0 - amount) * np.array(to_rgb(colour)))


def _luminance(colour):
    from matplotlib.colors import to_rgb

    return float(np.array(to_rgb(colour)) @ [0.2126, 0.7152, 0.0722])


def _short(value):
    """Return a value with three digits that count."""
    said = f"{value:#.3g}".rstrip(".") if value else "0"
    return said.replace("-", "−")
