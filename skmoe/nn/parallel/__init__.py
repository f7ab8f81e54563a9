"""Experts that are shared out among processes."""

__all__: list[str] = []
