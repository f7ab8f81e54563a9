"""The EM engine: starts, nodes, the loop, acceleration. Private as a whole."""

__all__: list[str] = []
