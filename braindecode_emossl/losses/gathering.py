"""Tensors of all processes of a distributed training, with their gradients.

In a process group, each process holds a part of the batch and computes the loss of the
whole batch. The gradients of its part are summed over the processes. Therefore the mean
of the weights' gradients over the processes, which ``DistributedDataParallel`` takes,
equals the gradient of one process with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

__all__ = ["gather", "total"]


def gather(x: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Concatenate a tensor over the processes.

    Every process must call this, with a tensor of the same shape.

    Parameters
    ----------
    x : torch.Tensor, shape (..., n, ...)
        Part of this process.
    dim : int, default=0
        The dimension of ``n``.

    Returns
    -------
    torch.Tensor, shape (..., n_processes * n, ...)
        Parts of all processes in the order of their ranks; ``x`` itself if there is one
        process. The gradient of each part is summed over the processes.
    """
    return _Gather.apply(x, dim) if _is_distributed() else x


def total(x: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over the processes.

    Parameters
    ----------
    x : torch.Tensor
        Part of this process, of the same shape in all processes.

    Returns
    -------
    torch.Tensor
        The sum, with gradients as in :func:`gather`; ``x`` itself if there is one
        process.
    """
    return gather(x[None]).sum(0) if _is_distributed() else x


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """All-gather that sums gradients; the one of torch is deprecated."""

    @staticmethod
    def forward(ctx, x, dim):
        x = x.contiguous()
        ctx.dim, ctx.length = dim, x.shape[dim]
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx, grad):
        # A copy, as the given gradient may be used elsewhere.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.narrow(ctx.dim, dist.get_rank() * ctx.length, ctx.length), None
