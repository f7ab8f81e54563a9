"""Pictures of fitted mixtures."""

from skmoe.inspection._tree import TreeDisplay

__all__ = ["TreeDisplay"]
