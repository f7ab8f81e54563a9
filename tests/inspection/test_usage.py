"""Expert usage: shares and effective numbers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmoe.inspection import ExpertUsageDisplay
from tests._quick import regressor

draw = ExpertUsageDisplay.from_estimator


def test_shares(flat, plane):
    X, y = plane
    display = draw(flat, X, y)
    gate = flat.gate_proba(X)
    assert_allclose(display.gate, gate.mean(axis=0))
    assert_allclose(display.resp, flat.responsibilities(X, y).mean(axis=0))
    assert_allclose(display.winner, np.bincount(flat.apply(X), minlength=3) / len(X))
    entropy = -(display.resp * np.log(display.resp)).sum()
    assert display.effective_number == pytest.approx(np.exp(entropy))
    rows = -(gate * np.log(gate)).sum(axis=1)
    assert display.per_row == pytest.approx(np.exp(rows.mean()))


def test_without_responses_the_gate_counts(flat, plane):
    display = draw(flat, plane[0])
    assert display.resp is None
    entropy = -(display.gate * np.log(display.gate)).sum()
    assert display.effective_number == pytest.approx(np.exp(entropy))
    assert display.ax_.get_legend() is None


def test_a_row_of_weight_two_counts_twice(flat, plane):
    X, y = plane
    weight = np.arange(len(X)) % 3
    weighted = draw(flat, X, y, sample_weight=weight)
    repeated = draw(flat, np.repeat(X, weight, axis=0), np.repeat(y, weight))
    for name in ("gate", "resp", "winner", "per_row"):
        assert_allclose(getattr(weighted, name), getattr(repeated, name))


def test_effective_numbers_of_known_shares():
    even = ExpertUsageDisplay(
        gate=np.full(4, 0.25), winner=np.full(4, 0.25), per_row=1.0, expert_names="abcd"
    )
    assert even.effective_number == pytest.approx(4.0)
    one = ExpertUsageDisplay(
        gate=np.full(2, 0.5),
        winner=np.full(2, 0.5),
        per_row=1.0,
        expert_names="ab",
        resp=np.array([1.0, 0.0]),
    )
    assert one.effective_number == 1.0


def test_groups_share_their_responsibilities(plane):
    X, y = plane
    groups = np.arange(len(X)) // 4
    model = regressor().fit(X, y, groups=groups)
    resp = model.responsibilities(X, y, groups=groups)
    assert_allclose(draw(model, X, y, groups=groups).resp, resp.mean(axis=0))


def test_bars_and_words(flat, plane):
    display = draw(flat, *plane)
    done, expected = display.ax_.containers
    assert_allclose([bar.get_width() for bar in done], display.resp)
    assert_allclose([bar.get_width() for bar in expected], display.gate)
    assert display.ax_.get_title("left") == (
        f"effective number {display.effective_number:.1f} of 3, "
        f"{display.per_row:.1f} for a row"
    )
    shares = [t.get_text() for t in display.ax_.texts]
    assert shares == [f"{100 * share:.0f} %" for share in display.resp]
    tops = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert tops == ["expert0", "expert1", "expert2"]
    assert display.ax_.yaxis_inverted()  # the first one on top


def test_frame(flat, plane):
    display = draw(flat, *plane)
    frame = display.frame()
    assert frame.columns.tolist() == ["expert", "gate", "winner", "responsibility"]
    assert frame["expert"].tolist() == flat.expert_names_
    assert_allclose(frame[["gate", "winner", "responsibility"]].sum(), 1.0)
    assert "responsibility" not in draw(flat, plane[0]).frame()


def test_bad_weights(flat, plane):
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        draw(flat, *plane, sample_weight=-np.ones(200))
