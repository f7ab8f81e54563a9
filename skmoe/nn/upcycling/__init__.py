"""Dense models turned into mixtures: feed-forward layers found and replaced."""

__all__: list[str] = []
