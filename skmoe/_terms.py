"""What the parameters of a part mean to the user, term by term."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import Design

__all__ = ["CoefficientMap", "Term", "contrast_map", "design_map", "predictor_map"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One number of a part, as a printout names it.

    Attributes
    ----------
    kind : {"intercept", "slope", "shape"}
    column : int
        Position of its column in what the part sees; -1 for none.
    output : int
        Position of its output or class; -1 where there is one linear predictor.
    name : str
        Of a shape (variance, theta, ...), or of the predictor, where it is not the
        first.
    log : bool
        Whether the parameter is the logarithm of the number.
    positive : bool
        Whether the number is positive, so that its interval is made for its log.
    """

    kind: str
    column: int = -1
    output: int = -1
    name: str = ""
    log: bool = False
    positive: bool = False


class CoefficientMap(NamedTuple):
    """From the parameters of a part to the terms of a printout.

    Attributes
    ----------
    terms : list of Term
    matrix : array of shape (n_terms, n_parameters)
        Terms (logs of those with ``log``) are this times the parameters.
    free : array of shape (n_parameters, n_free)
        The parameters are this times as many free ones, up to a shift that changes
        no density: coefficients of the first class are fixed at zero.
    """

    terms: list[Term]
    matrix: Array
    free: Array


def design_map(design: Design) -> tuple[Array, list[int]]:
    """Return how coefficients of the design become those of the user's columns.

    Returns
    -------
    matrix : array of shape (n_terms, n_columns)
    columns : list of int
        The column of each term, -1 for the intercept.
    """
    n_features = design.center.size
    slopes = np.diag(design.inverse_scale)
    if not design.intercept:
        return slopes, list(range(n_features))
    matrix = np.zeros((n_features + 1, n_features + 1))
    matrix[0, 0] = 1.0
    matrix[0, 1:] = -design.inverse_scale * design.center
    matrix[1:, 1:] = slopes
    return matrix, [-1, *range(n_features)]


def contrast_map(own: Array, columns: list[int], n_classes: int) -> CoefficientMap:
    """Return the map of a multinomial logit: contrasts to the first class.

    Its parameters are coefficients of shape (n_classes, n_columns).

    Parameters
    ----------
    own, columns : as `design_map` returns them
    n_classes : int
    """
    p = own.shape[1]
    terms = [
        Term("intercept" if j < 0 else "slope", j, c)
        for c in range(1, n_classes)
        for j in columns
    ]
    contrast = np.eye(n_classes)[1:]
    contrast[:, 0] = -1.0
    free = np.eye(n_classes * p)[:, p:]
    return CoefficientMap(terms, np.asarray(np.kron(contrast, own), float), free)


def predictor_map(
    design: Design, names: Any, shapes: list[Term], outputs: bool = False
) -> CoefficientMap:
    """Return the map of some linear predictors on one design, and of shapes.

    Parameters
    ----------
    names : sequence of str
        Of the predictors.
    shapes : list of Term
    outputs : bool
        Whether the predictors are those of several outputs.
    """
    own, columns = design_map(design)
    terms = [
        Term("intercept" if j < 0 else "slope", j, i if outputs else -1, str(names[i]))
        for i in range(len(names))
        for j in columns
    ]
    n_coef, n_shapes = len(names) * own.shape[1], len(shapes)
    matrix = np.zeros((len(terms) + n_shapes, n_coef + n_shapes))
    matrix[: len(terms), :n_coef] = np.kron(np.eye(len(names)), own)
    matrix[len(terms) :, n_coef:] = np.eye(n_shapes)
    return CoefficientMap([*terms, *shapes], matrix, np.eye(n_coef + n_shapes))
