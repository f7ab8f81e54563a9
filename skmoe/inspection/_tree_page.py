"""Where everything is in the picture of a tree, and the words in it.

Lengths are points (1/72 inch) on a page that is as large as the tree needs.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from skmoe._wording import class_shares, number, percent

__all__ = [
    "CHIP",
    "FONT",
    "LINE",
    "MARGIN",
    "PAD",
    "SMALL",
    "Spot",
    "TreePage",
    "plain",
    "text_width",
]

FONT, SMALL, LINE = 9.0, 7.5, 11.5  # sizes of text, height of a line
PAD, GAP = 5.0, 44.0  # inside a box, between two levels
CHIP = 46.0  # width of a leaf's chip
CHIP_HEIGHT = 26.0  # at most; as high as the widest band of a leaf
HINTING = 1.05  # letters on a screen are up to so much wider than their outlines
MARGIN, MIN_WIDTH = 12.0, 300.0  # of the page
MAX_LINES, MAX_NAME, MAX_FORMULA = 3, 22, 88


@dataclass
class Spot:
    """A node on the page.

    Attributes
    ----------
    node : int
    x, y : float
        Left edge, and middle.
    width, height : float
    lines : list of str
    span : tuple of int
        Its first and its last row.
    children : list of (Spot, label of the edge)
    """

    node: int
    lines: list
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0
    span: tuple = (0, 0)
    children: list = field(default_factory=list)


class TreePage:
    """A tree on a page: boxes for gates on the left, rows for leaves on the right.

    Parameters
    ----------
    display : TreeDisplay
    max_depth : int or None

    Attributes
    ----------
    root : Spot
    ends : list of Spot
        Leaves, and parts that are cut off, from the first to the last row.
    levels : list of list of Spot
        Gates, level by level.
    width, height : float
    scale : float
        Width of the band of all rows.
    notes : list of str
        Lines under the picture, from ``foot`` on.
    key : list of (x, y, label)
        Places of the classes in the key, from ``key_top`` on.
    """

    def __init__(self, display, max_depth):
        self.display, self.tree = display, display.tree
        self.max_depth = np.inf if max_depth is None else max_depth
        self.position = {node: i for i, node in enumerate(self.tree.inner)}
        self.number = {node: k for k, node in enumerate(self.tree.leaves)}
        self.ends, self.levels = [], []
        self.root = self._spot(0)
        self._lay_out()

    # -- what is on the page -------------------------------------------------------

    def _spot(self, node):
        """Return a node and all that is drawn below it."""
        level = int(self.tree.level[node])
        children = self.tree.children[node]
        if not children or level >= self.max_depth:
            spot = Spot(node, self._end_lines(node))
            self.ends.append(spot)
            return spot
        spot = Spot(node, self._box_lines(node))
        while len(self.levels) <= level:
            self.levels.append([])
        self.levels[level].append(spot)
        labels = self._edge_labels(node)
        spot.children = [
            (self._spot(child), label)
            for child, label in zip(children, labels, strict=True)
        ]
        return spot

    def _box_lines(self, node):
        """Return the text of a gate: share, and the columns it looks at."""
        split = self.display.splits[self.position[node]]
        head = percent(self.display.share[node])
        if not split.names:
            return [
                head,
                *_wrapped(re.sub(r"([(,]) ?", r"\1 ", split.text), 150.0, FONT),
            ]
        names = [_clip(name, MAX_NAME) for name in split.names]
        if split.threshold is not None or split.weight.shape[0] > 1:
            return [head, *names]
        weights = [_signed(weight) for weight in split.weight[0]]
        return [head, *(f"{w} {name}" for w, name in zip(weights, names, strict=True))]

    def _edge_labels(self, node):
        split = self.display.splits[self.position[node]]
        n_children = len(self.tree.children[node])
        if not split.names:
            return [""] * n_children
        if split.threshold is not None:
            at, rises = number(split.threshold), split.weight[0, 0] > 0
            below, above = f"< {at}", f"> {at}"
            return [_minus(t) for t in ((below, above) if rises else (above, below))]
        if n_children == 2:
            return ["−", "+"]
        return [_directions(split.names, weight) for weight in split.weight]

    def _end_lines(self, node):
        """Return the text beside a leaf, or beside a part that is cut off."""
        share = percent(self.display.share[node])
        if node not in self.number:
            count = len(self.tree.leaves_under(node))
            return [f"{count} leaves · {share}", "below this depth"]
        k, display = self.number[node], self.display
        head = [f"leaf {k}", share]
        if display.noise is not None:
            noise = ", ".join(number(s) for s in display.noise[k][:MAX_LINES])
            head.append(f"noise {noise}")
        lines = [_typeset(line) for line in display.experts[k]]
        if display.classifies and display.value is not None:
            # The scores of several classes say less than the shares.
            lines = lines if len(lines) == 1 else []
            lines.insert(0, class_shares(display.value[node], display.labels))
        if len(lines) > MAX_LINES:
            lines = [*lines[: MAX_LINES - 1], f"… {len(lines)} lines in all"]
        return [" · ".join(head), *(_clip(line, MAX_FORMULA) for line in lines)]

    # -- where it is ---------------------------------------------------------------

    def _lay_out(self):
        """Give every spot its place; set the size of the page."""
        boxes = [spot for level in self.levels for spot in level]
        for spot in boxes:
            spot.width = 2 * PAD + max(
                text_width(line, FONT, bold=i == 0) for i, line in enumerate(spot.lines)
            )
            spot.height = 2 * PAD + LINE * len(spot.lines)
        # A box stands in the middle of its rows, which are two at least.
        tallest = max([spot.height for spot in boxes], default=0.0)
        lines = max(len(spot.lines) for spot in self.ends)
        row = max(LINE * lines + 2 * PAD, 0.5 * (tallest + 2 * PAD))
        self.chip_height = min(0.8 * row, CHIP_HEIGHT)
        share = self.display.share
        self.scale = self.chip_height / max(share[spot.node] for spot in self.ends)
        for i, spot in enumerate(self.ends):
            spot.y, spot.height = MARGIN + (i + 0.5) * row, LINE * len(spot.lines)
            spot.span = (i, i)
        for spot in reversed(boxes):
            spot.span = spot.children[0][0].span[0], spot.children[-1][0].span[1]
            spot.y = MARGIN + 0.5 * (sum(spot.span) + 1) * row
            spot.height = max(spot.height, self.scale * share[spot.node])
        self._place_columns()
        self.foot = 2 * MARGIN + row * len(self.ends)
        self.notes = _wrapped(" ".join(self._notes()), self.width - 2 * MARGIN, SMALL)
        self.key_top = self.foot + LINE * len(self.notes) + 5.0
        self._place_key()
        self.height = self.key_top + LINE * self.key_lines + MARGIN

    def _place_columns(self):
        x, self.starts = MARGIN, []
        for level in self.levels:
            self.starts.append(x)
            width = max(spot.width for spot in level)
            labels = [label for spot in level for _, label in spot.children]
            longest = max(text_width(label, SMALL) for label in labels)
            for spot in level:
                spot.x = x
                spot.width = width
            x += width + max(GAP, longest + 24.0)
        self.starts.append(x)
        for spot in self.ends:
            spot.x = x
        text = max(
            text_width(line, FONT if i == 0 else SMALL, bold=i == 0)
            for spot in self.ends
            for i, line in enumerate(spot.lines)
        )
        self.width = max(x + CHIP + 8.0 + text + MARGIN, MIN_WIDTH)

    def _place_key(self):
        """Give the classes their places in the key, in as many lines as they need."""
        self.key, self.key_lines = [], 2  # two lines hold a scale of colours
        if not self.display.classifies or self.display.value is None:
            return
        x, line = MARGIN, 0
        for label in self.display.labels:
            label = _clip(label, MAX_NAME)
            width = 26.0 + text_width(label, SMALL)
            if x + width > self.width and x > MARGIN:
                x, line = MARGIN, line + 1
            self.key.append((x, self.key_top + LINE * line, label))
            x += width
        self.key_lines = line + 1

    def _notes(self):
        """Return what must be said under the picture."""
        splits = [
            self.display.splits[self.position[spot.node]]
            for level in self.levels
            for spot in level
        ]
        notes = ["Percentages and widths of bands: share of the rows, softly split."]
        if any(s.threshold is not None for s in splits):
            notes.append("At a threshold both branches are equally probable.")
        if any(s.names and s.threshold is None and len(s.weight) == 1 for s in splits):
            notes.append(
                "Numbers in a box: change of the log odds (nats) of its branch + when "
                "the column rises by one standard deviation."
            )
        if any(len(s.weight) > 1 for s in splits):
            notes.append("Arrows: the branch takes high or low values of the column.")
        return notes


@lru_cache(maxsize=4096)
def text_width(text, size, *, bold=False):
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    prop = FontProperties(weight="bold" if bold else "normal")
    path = TextPath((0, 0), plain(text), size=size, prop=prop)
    return HINTING * float(path.get_extents().x1)


def plain(text):
    """Keep dollar signs from being read as mathematics."""
    return text.replace("$", r"\$")


def _minus(text):
    """Write minus signs as such."""
    return re.sub(r"(^|[ =<>(])-(?=[ \d])", "\\1−", text)


def _typeset(formula):
    return re.sub(r" \.\.\.$", " …", _minus(formula))


def _signed(value):
    digits = int(np.clip(1 - np.floor(np.log10(max(abs(value), 1e-6))), 0, 6))
    return _minus(f"{value:+.{digits}f}")


def _clip(text, length):
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _wrapped(text, width, size):
    """Return a text in lines that are no wider than some points, if words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _directions(names, weight):
    """Return the two columns that a branch is most about, with arrows."""
    order = np.argsort(-np.abs(weight), kind="stable")[:2]
    words = [
        f"{'↑' if weight[j] > 0 else '↓'} {_clip(names[j], MAX_NAME)}" for j in order
    ]
    return "  ".join(words)
