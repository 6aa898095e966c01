"""PyTorch: the `state_dict` of a module, float tensors only."""

from dataclasses import dataclass

import numpy as np
import torch

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Torch:
    """Modules of PyTorch, on whatever device.

    What travels are parameters and buffers of float dtype, as float32, doubles as float64. Integer and boolean buffers
    stay at each site: `num_batches_tracked` of a normalisation counts the site's own batches, and a mean of counters or
    masks is neither. Running means and variances are averaged like weights; to keep them at home as FedBN does, leave
    them out of the experiment's first model.
    """

    combine: Combine = Combine.MEAN

    def flatten(self, model: torch.nn.Module, /) -> dict[str, Array]:
        """Copies on the CPU."""
        return {name: _array(tensor) for name, tensor in _travelling(model).items()}

    def unflatten(self, model: torch.nn.Module, tensors: Tensors, /) -> torch.nn.Module:
        """The same module; its tensors keep dtype, device and identity, so that optimisers keep theirs."""
        with torch.no_grad():
            for name, tensor in _travelling(model).items():
                tensor.copy_(torch.from_numpy(np.array(tensors[name])))
        return model


def _travelling(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def _array(tensor: torch.Tensor) -> Array:
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    array: Array = tensor.detach().to("cpu", wide, copy=True).numpy()
    return array
