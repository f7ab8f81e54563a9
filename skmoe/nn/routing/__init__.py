"""From a router to the outputs of a layer: plans, slots, experts, losses."""

__all__: list[str] = []
