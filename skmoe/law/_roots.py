"""Roots and peaks of many functions of one number at a time, each in a bracket.

A function takes points and which of the problems they belong to,
``function(x, index)``; problems that are solved are not asked about again.
"""

import numpy as np

__all__ = ["bracketed_peaks", "bracketed_roots"]

MAX_STEPS = 200
# Chandrupatla's bracket ends as close as a few units in the last place.
ULPS = 4.0 * float(np.finfo(float).eps)
GOLDEN = 0.381966011250105
# Of a peak, beside the width of its bracket.
PEAK_TOL = 1e-7


def bracketed_roots(function, low, high, f_low, f_high, x_tol=0.0, f_tol=0.0):
    """Return where functions change sign, by inverse quadratic steps or bisection.

    Parameters
    ----------
    function : callable
    low, high : arrays of shape (n,)
        Ends of the brackets.
    f_low, f_high : arrays of shape (n,)
        The values there, of unlike signs.
    x_tol : float or array of shape (n,), default=0
        Stop when the root is known to so much.
    f_tol : float, default=0
        Stop where the function is no farther from zero.

    Returns
    -------
    x : array of shape (n,)

    References
    ----------
    Chandrupatla, T. R. (1997). A new hybrid quadratic/bisection algorithm for
    finding the zero of a nonlinear function without using derivatives. Advances
    in Engineering Software 28.
    """
    out = np.where(np.abs(f_low) < np.abs(f_high), low, high)
    x_tol = np.broadcast_to(x_tol, out.shape)
    active = np.arange(out.size)
    a, b, fa, fb = (np.array(v, dtype=float) for v in (high, low, f_high, f_low))
    step = np.full(out.size, 0.5)
    for _ in range(MAX_STEPS):
        x = a + step * (b - a)
        fx = function(x, active)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        nearer = np.abs(fa) < np.abs(fb)
        out[active], best = np.where(nearer, a, b), np.where(nearer, fa, fb)
        with np.errstate(divide="ignore", invalid="ignore"):
            tol = 0.5 * x_tol[active] + ULPS * np.abs(out[active])
            least = tol / np.abs(b - a)
            left = (least <= 0.5) & (np.abs(best) > f_tol)
            step = _step(a, b, c, fa, fb, fc)
        active = active[left]
        if active.size == 0:
            break
        a, b, fa, fb, step, least = (v[left] for v in (a, b, fa, fb, step, least))
        step = np.clip(step, least, 1.0 - least)
    return out


def _step(a, b, c, fa, fb, fc):
    """Return the share of the way from a to b at which to look next."""
    place, height = (a - b) / (c - b), (fa - fb) / (fc - fb)
    trusted = (height**2 < place) & ((1.0 - height) ** 2 < 1.0 - place)
    step = fa / (fb - fa) * fc / (fb - fc)
    step += (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    return np.where(trusted & np.isfinite(step), step, 0.5)


def bracketed_peaks(function, left, peak, right, heights):
    """Return the highest points near points that are higher than two neighbours.

    By parabolas through three points, or a golden section of the longer side
    where the vertex is of no use (Brent 1973, Algorithms for minimization without
    derivatives, chapter 5).

    Parameters
    ----------
    function : callable
    left, peak, right : arrays of shape (n,)
        In increasing order.
    heights : list of three arrays of shape (n,)
        The values there, the second one not below the others.

    Returns
    -------
    peak, height : arrays of shape (n,)
    """
    out, top = np.array(peak), np.array(heights[1])
    tol = PEAK_TOL * (right - left)
    active = np.flatnonzero(tol > 0.0)
    a, b, c, fa, fb, fc = (v[active] for v in (left, peak, right, *heights))
    last = before = np.full(active.size, np.inf)
    for _ in range(MAX_STEPS):
        if active.size == 0:
            break
        # Parabolas alone may creep along one side.
        slow = c - a > 0.5 * before
        x = _between(a, b, c, fa, fb, fc, tol[active], slow)
        last, before = c - a, last
        fx = function(x, active)
        higher, to_left = fx > fb, x < b
        a, fa = _replaced(a, fa, higher & ~to_left, b, fb, ~higher & to_left, x, fx)
        c, fc = _replaced(c, fc, higher & to_left, b, fb, ~higher & ~to_left, x, fx)
        b, fb = np.where(higher, x, b), np.where(higher, fx, fb)
        out[active], top[active] = b, fb
        going = c - a > 4.0 * tol[active]
        active = active[going]
        last, before = last[going], before[going]
        a, b, c, fa, fb, fc = (v[going] for v in (a, b, c, fa, fb, fc))
    return out, top


def _between(a, b, c, fa, fb, fc, tol, slow):
    """Return where to look next for the peak between a and c, other than at b."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        before, after = (b - a) * (fb - fc), (b - c) * (fb - fa)
        x = b - 0.5 * ((b - a) * before - (b - c) * after) / (before - after)
    longer = np.where(c - b > b - a, c - b, a - b)
    x = np.where((x > a) & (x < c) & ~slow, x, b + GOLDEN * longer)
    # So close to b a step to the longer side shows that there is nothing more.
    return np.where(np.abs(x - b) < tol, b + np.copysign(tol, longer), x)


def _replaced(end, f_end, to_peak, b, fb, to_new, x, fx):
    """Return an end of the bracket, moved to the old peak or to the new point."""
    end = np.where(to_peak, b, np.where(to_new, x, end))
    return end, np.where(to_peak, fb, np.where(to_new, fx, f_end))
