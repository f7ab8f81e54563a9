"""What the scripts for a CUDA device share: time of a call, and rates of the device."""

import time

import numpy as np
import torch

__all__ = ["rates", "synchronised"]


def synchronised(function, repeats, warm=2):
    """Return the median seconds of a call, the device's work included."""
    times = []
    for i in range(warm + repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        function()
        torch.cuda.synchronize()
        if i >= warm:
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


def rates(dtype):
    """Return operations on numbers of a type, and bytes, a second of this device."""
    a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    b = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    flops = 2 * 8192**3 / synchronised(lambda: a @ b, 5)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    nbytes = 2 * 4 * source.numel() / synchronised(lambda: target.copy_(source), 5)
    return flops, nbytes
