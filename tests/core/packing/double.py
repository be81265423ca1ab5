"""Float64 throughout: transformers computes norms, softmax and some heads in float32 whatever the model's dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class StayDouble(TorchFunctionMode):
    """While active, what is float64 is not cast to float32, so that rounding of 1e-16 is all that may differ."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            if func is torch.Tensor.to:
                args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)
