"""A warm start: the weights that a part takes over from a fitted one."""

from dataclasses import replace
from typing import Any
from warnings import warn

from skmoe.nn._state import PartState, structure

__all__ = ["taken_over"]

# Columns and responses whose mean or deviation has moved by less, in deviations, are
# those that weights were trained on: the next M-step makes good for it.
DRIFT = 0.1


def taken_over(part: Any, fitted: Any) -> PartState:
    """Return the state that a prepared part goes on from: a fitted part's, if it fits.

    Settings of the training may differ; another optimiser starts without a memory.
    Where the weights would mean something else a UserWarning says why, and the part's
    own state is returned.

    Parameters
    ----------
    part, fitted : TorchPart
    """
    reasons = _differences(part, fitted)
    if reasons:
        warn(
            f"{type(part).__name__}: warm_start cannot go on from the weights of the "
            f"last fit, since {' and '.join(reasons)} changed; the network is trained "
            "anew. Leave these as they were, or set warm_start=False.",
            UserWarning,
            stacklevel=2,
        )
        own: PartState = part._state
        return own
    state: PartState = fitted._state.to(part._state.shape.device)
    same = part.optimizer == fitted.optimizer
    if same and part._options("optimizer") == fitted._options("optimizer"):
        return state
    return replace(state, moments={})


def _differences(part: Any, fitted: Any) -> list[str]:
    """Return what keeps a part from going on with a fitted one's weights."""
    head, known = part._head, fitted._head
    same = {
        "the module": structure(part._module) == structure(fitted._module),
        "the precision": part._dtype == fitted._dtype,
        "the head": type(head) is type(known)
        and part._state.shape.shape == fitted._state.shape.shape,
        "the scale of the columns": _near(part._scale, fitted._scale),
        "the scale of y": _near(head, known),
    }
    return [name for name, unchanged in same.items() if not unchanged]


def _near(one: Any, other: Any) -> bool:
    """Return whether two pairs of a center and a scale, if any, are nearly alike."""
    if not (hasattr(one, "scale") and hasattr(other, "scale")):
        return True
    center, scale = one.center.cpu(), one.scale.cpu()
    if other.scale.shape != scale.shape:
        return False
    moved = (other.center.cpu() - center).abs() / scale
    grown = (other.scale.cpu() / scale).log().abs()
    return bool((moved < DRIFT).all() and (grown < DRIFT).all())
