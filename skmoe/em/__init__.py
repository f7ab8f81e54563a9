"""The EM engine: starts, nodes, the loop, acceleration."""
