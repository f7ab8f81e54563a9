"""Colours of the experts, readable by all and on every ground."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal

from skmoe.inspection._style import (
    PALETTE,
    blend,
    expert_colours,
    ink_of,
    key_beside,
    middle_of,
    place,
    tidy,
)

# Machado, Oliveira and Fernandes (2009), severity 1: what the two commonest kinds of
# colour-blindness make of linear red, green and blue.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = [
    [0.4124, 0.3576, 0.1805],
    [0.2126, 0.7152, 0.0722],
    [0.0193, 0.1192, 0.9505],
]


def linear(colours):
    colours = np.asarray(colours)
    return np.where(
        colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )


def lab(light):
    """Return CIE L*a*b* of linear colours of shape (n_colours, 3)."""
    xyz = np.clip(light, 0.0, 1.0) @ np.transpose(TO_XYZ) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.column_stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])]
    )


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("n_experts", "least"), [(4, 40.0), (8, 18.0), (10, 17.0)])
def test_experts_are_told_apart(sight, n_experts, least):
    seen = lab(linear(expert_colours(n_experts)) @ np.transpose(SIGHT[sight]))
    apart = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
    assert min(apart) > least


@pytest.mark.parametrize("ground", [0.0, 1.0], ids=["black", "white"])
def test_experts_stand_out_from_the_ground(ground):
    bright = linear(expert_colours(10)) @ TO_XYZ[1]
    contrast = (np.maximum(bright, ground) + 0.05) / (np.minimum(bright, ground) + 0.05)
    assert contrast.min() > 1.5
    assert np.median(contrast) > 3.0


def test_an_expert_keeps_its_colour_whatever_their_number():
    assert_array_equal(expert_colours(3), expert_colours(25)[:3])
    assert_allclose(expert_colours(len(PALETTE)), [to_rgb(c) for c in PALETTE])


def test_beyond_the_palette_colours_grow_grey():
    colours = expert_colours(30)
    grey = np.abs(colours - 0.5).max(axis=1).reshape(3, 10)
    assert (np.diff(grey, axis=0) < 0).all()
    assert len(np.unique(colours.round(6), axis=0)) == 30


def test_shares_mix_colours():
    colours = expert_colours(2)
    mixed = blend(np.array([[1.0, 0.0], [0.25, 0.75]]))
    assert_allclose(mixed, [colours[0], 0.25 * colours[0] + 0.75 * colours[1]])
    rounded = blend(np.array([[1.0 + 1e-9, 0.0]]))
    assert rounded.max() <= 1.0


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_ink_and_ground_follow_the_style(style):
    with plt.style.context(style):
        _, ax = plt.subplots()
        dark = style == "dark_background"
        assert to_rgb(ink_of(ax)) == ((1.0,) * 3 if dark else (0.0,) * 3)
        assert_allclose(middle_of(ax, 0.0), to_rgb(ax.get_facecolor()))
        assert_allclose(middle_of(ax, 1.0), to_rgb(ink_of(ax)))
        assert_allclose(middle_of(ax, 0.25), 0.75 if not dark else 0.25)


class Shown:
    pass


def test_axes_are_new_or_those_given():
    shown = Shown()
    ax = place(shown, None, (3.0, 2.0))
    assert shown.ax_ is ax
    assert shown.figure_ is ax.figure
    assert ax.figure.get_size_inches().tolist() == [3.0, 2.0]
    _, (left, right) = plt.subplots(1, 2)
    assert place(shown, right) is right
    assert shown.ax_ is right
    assert not left.has_data()


def test_the_key_is_beside_the_axes_and_the_frame_open():
    ax = place(Shown(), None)
    ax.plot([0, 1], [0, 1], label="line")
    key = key_beside(ax)
    tidy(ax)
    ax.figure.canvas.draw()
    assert key.get_window_extent().x0 >= ax.get_window_extent().x1
    assert [t.get_text() for t in key.get_texts()] == ["line"]
    assert key._ncols == 1
    assert not ax.spines["top"].get_visible()
    assert ax.spines["left"].get_visible()
