"""Experts that know their training rows within a fit, and nowhere else."""

from copy import deepcopy
from typing import ClassVar

__all__ = ["KeptRows"]


class KeptRows:
    """Copies of an expert share what belongs to a fit; pickles are without it."""

    # Attributes that hold training rows, or what was found on them.
    _of_the_fit: ClassVar[tuple[str, ...]] = ("_train",)

    def __getstate__(self):
        # The training rows belong to a fit; predictions do not need them.
        state, own = super().__getstate__(), self._of_the_fit
        return {key: None if key in own else value for key, value in state.items()}

    def __copy__(self):
        # A snapshot within EM still knows the training rows; a pickle does not.
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo):
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for key, value in self.__dict__.items():
            shared = key in self._of_the_fit
            new.__dict__[key] = value if shared else deepcopy(value, memo)
        return new
