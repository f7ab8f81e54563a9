"""Triton kernels: imported where Triton and a CUDA device are."""

__all__: list[str] = []
