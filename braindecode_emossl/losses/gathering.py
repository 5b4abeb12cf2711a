"""Tensors of all processes of a distributed training, with their gradients.

In a process group, every process computes the loss of the whole batch, of which it
holds a part. The gradients of what it holds are added up over the processes, and so the
mean over the processes that ``DistributedDataParallel`` takes of the gradients of the
weights is the gradient of one process with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

__all__ = ["gather", "total"]


def gather(x: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Concatenate a tensor over the processes; alone, return it as it is.

    Every process must call this, with a tensor of the same shape.

    Parameters
    ----------
    x : torch.Tensor, shape (..., n, ...)
        What this process holds.
    dim : int, default=0
        The dimension of ``n``.

    Returns
    -------
    torch.Tensor, shape (..., n_processes * n, ...)
        What all hold, in the order of their ranks. Its gradients reach the process
        that each part comes from, added up over the processes.
    """
    return _Gather.apply(x, dim) if _is_distributed() else x


def total(x: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over the processes; alone, return it as it is.

    Parameters
    ----------
    x : torch.Tensor
        What this process holds, of the same shape in all.

    Returns
    -------
    torch.Tensor
        The sum, with gradients as those of :func:`gather`.
    """
    return gather(x[None]).sum(0) if _is_distributed() else x


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """All-gather whose backward pass adds up; torch deprecates its own."""

    @staticmethod
    def forward(ctx, x, dim):
        x = x.contiguous()
        ctx.dim, ctx.length = dim, x.shape[dim]
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx, grad):
        # A copy, as others may read the gradient that is given.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.narrow(ctx.dim, dist.get_rank() * ctx.length, ctx.length), None
