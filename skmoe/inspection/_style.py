"""What all pictures share: the experts' colours, axes, legends, ink."""

import numpy as np

__all__ = [
    "PALETTE",
    "blend",
    "expert_colours",
    "ink_of",
    "key_beside",
    "middle_of",
    "place",
    "tidy",
]

# Ten colours that stay apart for the colour-blind, on white and on black (Petroff,
# M. A. 2021. Accessible color sequences for data visualization. arXiv:2107.02270).
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
GREY = 0.5
# How much of its colour an expert keeps each time that the palette begins anew.
FADE = 0.55
# Height of a line of a legend, in sizes of its font.
LINE = 1.7


def expert_colours(n_experts):
    """Return the colour of each expert, the same in all pictures.

    Beyond ten experts the colours come again, greyer.

    Returns
    -------
    colours : array of shape (n_experts, 3)
        Red, green and blue in [0, 1].
    """
    from matplotlib.colors import to_rgb

    turn, place = np.divmod(np.arange(n_experts), len(PALETTE))
    keep = FADE ** turn[:, None]
    base = np.array([to_rgb(colour) for colour in PALETTE])
    return keep * base[place] + (1.0 - keep) * GREY


def blend(share):
    """Return the experts' colours mixed by shares of shape (n_samples, n_experts)."""
    return np.clip(share @ expert_colours(share.shape[1]), 0.0, 1.0)


def place(display, ax, figsize=(6.4, 4.2)):
    """Give a display its axes, new ones for None; return them."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def ink_of(ax):
    """Return the colour of text in some axes, light ones or dark ones."""
    return ax.xaxis.label.get_color()


def middle_of(ax, share=0.5):
    """Return a colour between the ground of some axes and their ink."""
    from matplotlib.colors import to_rgb

    ground, ink = np.array([to_rgb(ax.get_facecolor()), to_rgb(ink_of(ax))])
    return (1.0 - share) * ground + share * ink


def key_beside(ax, handles=None):
    """Put a legend to the right of some axes, where it covers no data.

    Where its entries are more than fit beside the axes it has several columns.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    font = FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points()
    height = 72.0 * ax.get_window_extent().height / ax.figure.dpi
    fits = max(1, int(height / (LINE * font)))
    return ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        ncols=max(1, -(-len(handles) // fits)),
    )


def tidy(ax):
    """Take the frame off where there is no axis."""
    ax.spines[["top", "right"]].set_visible(False)
