"""Calibration: the probability integral transform and its bands."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skmoe.distribution import MixtureDistribution
from skmoe.inspection import CalibrationDisplay
from skmoe.inspection._calibration import probability_below
from skmoe.likelihoods import Gaussian, PointMass, Poisson

draw = CalibrationDisplay.from_predictions


def normal(mean, scale=1.0):
    mean = np.asarray(mean, dtype=float)
    return MixtureDistribution(
        np.zeros((mean.size, 1)), [mean], [scale**2], [Gaussian()]
    )


def poisson(mean):
    return MixtureDistribution(np.zeros((mean.size, 1)), [mean], [None], [Poisson()])


# -- the data ----------------------------------------------------------------------


def test_the_transform_of_a_density(flat, plane):
    X, y = plane
    display = CalibrationDisplay.from_estimator(flat, X, y)
    assert_allclose(display.pit, flat.predict_distribution(X).cdf(y))
    again = draw(flat.predict_distribution(X), y)
    assert_allclose(again.pit, display.pit)


def test_one_output_of_several(several, plane):
    X, y = plane
    y = np.column_stack([y, 2.0 * y + 1.0])
    display = CalibrationDisplay.from_estimator(several, X, y, target=1)
    law = several.predict_distribution(X)
    scale = [
        np.sqrt(np.broadcast_to(np.asarray(e.dispersion), (2, 2))[1, 1])
        if np.ndim(e.dispersion) == 2
        else np.sqrt(np.broadcast_to(e.dispersion, 2)[1])
        for e in several.experts_
    ]
    below = stats.norm.cdf(y[:, [1]], law.means[:, :, 1], scale)
    assert_allclose(display.pit, (law.gate * below).sum(axis=1))


def test_jumps_of_counts():
    mean = np.full(5, 2.0)
    low, high = probability_below(poisson(mean), np.arange(5))
    assert_allclose(low, [0.0, *stats.poisson.cdf(np.arange(4), 2.0)])
    assert_allclose(high, stats.poisson.cdf(np.arange(5), 2.0))


def test_the_jump_of_a_mixed_law():
    # Zero with probability 0.4, else normal.
    law = MixtureDistribution(
        np.log([[0.4, 0.6]] * 2),
        [np.zeros(2), np.full(2, 1.0)],
        [None, 1.0],
        [PointMass(), Gaussian()],
    )
    low, high = probability_below(law, [0.0, 0.5])
    assert_allclose(low[0], 0.6 * stats.norm.cdf(-1.0))
    assert_allclose(high[0], 0.4 + 0.6 * stats.norm.cdf(-1.0))
    assert_allclose(low[1], high[1])


def test_counts_are_drawn_within_the_jump():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 4.0, 4000)
    y = rng.poisson(mean)
    display = draw(poisson(mean), y)
    low, high = probability_below(poisson(mean), y)
    assert (display.pit >= low).all()
    assert (display.pit <= high).all()
    assert stats.kstest(display.pit, "uniform").pvalue > 0.01
    assert_allclose(draw(poisson(mean), y).pit, display.pit)
    other = draw(poisson(mean), y, random_state=1)
    assert not np.allclose(other.pit, display.pit)


def test_right_and_wrong_laws():
    rng = np.random.default_rng(1)
    y = rng.standard_normal(2000)

    def beyond(mean, scale):
        frame = draw(normal(np.full(2000, mean), scale), y).frame()
        share = frame["share"]
        return (share < frame["band_low"]) | (share > frame["band_high"]), share

    outside, _ = beyond(0.0, 1.0)
    assert outside.sum() <= 3  # 20 bars at 95 %
    outside, share = beyond(0.0, 0.5)  # too narrow: both ends heap up
    assert outside.iloc[[0, -1]].all()
    assert share.iloc[[0, -1]].min() > share.iloc[5:15].max()
    _, share = beyond(0.0, 2.0)  # too wide: the middle does
    assert share.iloc[8:12].min() > share.iloc[[0, -1]].max()
    _, share = beyond(1.0, 1.0)  # too high: responses lie low
    assert share.iloc[0] > share.iloc[-1]


def test_frame():
    display = CalibrationDisplay(pit=np.array([0.05, 0.1, 0.5, 1.0]))
    frame = display.frame(n_bins=2)
    assert frame["low"].tolist() == [0.0, 0.5]
    assert frame["high"].tolist() == [0.5, 1.0]
    assert frame["count"].tolist() == [2, 2]
    assert frame["share"].tolist() == [0.5, 0.5]
    low, high = stats.binom.ppf([0.025, 0.975], 4, 0.5) / 4
    assert_allclose(frame[["band_low", "band_high"]], [[low, high]] * 2)


@pytest.mark.parametrize(("n_rows", "n_bins"), [(9, 5), (133, 11), (5000, 20)])
def test_number_of_bars(n_rows, n_bins):
    display = CalibrationDisplay(pit=np.linspace(0.0, 1.0, n_rows))
    assert len(display.frame()) == n_bins


# -- the picture -------------------------------------------------------------------


def test_histogram():
    display = CalibrationDisplay(pit=np.linspace(0.01, 0.49, 40)).plot(n_bins=4)
    (bars,) = display.ax_.containers
    assert_allclose([bar.get_height() for bar in bars], [2.0, 2.0, 0.0, 0.0], atol=0.11)
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1.0)
    (band,) = [p for p in display.ax_.patches if p not in bars.patches]
    low, high = stats.binom.ppf([0.025, 0.975], 40, 0.25) / 10  # rows to density
    assert_allclose([band.get_y(), band.get_y() + band.get_height()], [low, high])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["chance, 95%", "right laws"]


def test_difference():
    pit = np.array([0.1, 0.2, 0.8])
    display = CalibrationDisplay(pit=pit).plot(kind="difference")
    line = display.ax_.lines[0]
    at, height = line.get_xdata(), line.get_ydata()
    assert at[0] == 0.0
    assert at[-1] == 1.0
    for x, y in zip(at, height, strict=True):
        low, high = np.mean(pit < x) - x, np.mean(pit <= x) - x
        assert min(abs(y - low), abs(y - high)) < 1e-12
    reach = stats.kstwo.ppf(0.95, 3)
    band = display.ax_.patches[0]
    assert_allclose([band.get_y(), band.get_y() + band.get_height()], [-reach, reach])


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"one of \['histogram', 'difference'\], got"):
        CalibrationDisplay(pit=np.zeros(3)).plot(kind="reliability")


def test_a_response_for_each_row():
    with pytest.raises(ValueError, match=r"y must be of shape \(3,\), got \(2,\)"):
        draw(normal(np.zeros(3)), [0.0, 1.0])


def test_rows_without_a_response_do_not_count(flat, plane):
    X, y = plane
    law, some = flat.predict_distribution(X), y.copy()
    some[::3] = np.nan
    seen = np.isfinite(some)
    assert_allclose(draw(law, some).pit, draw(law, y).pit[seen])
    from_model = CalibrationDisplay.from_estimator(flat, X, some)
    assert_allclose(from_model.pit, draw(law, some).pit)
