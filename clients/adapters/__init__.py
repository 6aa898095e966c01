"""Models of common frameworks as named arrays: one file a framework, imported only where it is installed.

| framework | adapter | what travels |
|---|---|---|
| PyTorch | `clients.adapters.torch.Torch` | float parameters and buffers of the `state_dict` |
| scikit-learn | `clients.adapters.sklearn.Linear`, `Perceptron`, `NaiveBayes`, `KMeans` | coefficients; exact sums |
| scikit-learn | `clients.adapters.least_squares.LeastSquares` | exact sums of products: linear and ridge regression |
| Keras 3 | `clients.adapters.keras.Keras` | float weights, whatever the backend |
| JAX, Flax | `clients.adapters.jax.Pytree` | the float leaves of a pytree |
| NumPy | `clients.adapters.arrays.Arrays` | a dictionary of arrays |

XGBoost averages nothing, so `clients.adapters.xgboost` is a loop of its own: sums of histograms become trees. Teams on
Flower or NVFlare keep their strategy and swap the aggregation: `clients.adapters.flower`, `clients.adapters.nvflare`.
"""

from clients.adapters.contract import Adapter, Combine, Tensors, change, moved

__all__ = ["Adapter", "Combine", "Tensors", "change", "moved"]
