"""From a FedAvg recipe to a secure one: the filters in their places, and settings refused that would do nothing."""

from typing import Any, TypeVar

from aggregator.errors import ParameterError
from clients.adapters.nvflare.aggregator import SecureModelAggregator
from clients.adapters.nvflare.filter import SecureFilter

TASK = "train"
PACKAGES = ["aggregator", "clients", "native"]
"""Not to be copied into the job: the code that masks an update is the site's own installation."""

SINGLE = {
    "aggregation_weights": "weights are masked, so the server cannot change them: weigh at the site",
    "exclude_vars": "the server sees no variables of a site: leave them out of the model that is exchanged",
}
"""Settings of a recipe for which its server must see single updates, and what to do instead."""

R = TypeVar("R", bound=Any)


def secure(recipe: R, secure_filter: SecureFilter | None) -> R:
    """Add the filter to all clients of a recipe; call it last, so that the filter sees what other filters made.

    Args:
        recipe: a FedAvg recipe; it is changed.
        secure_filter: None where every site has it in its own privacy policy.

    Returns:
        The recipe.

    Raises:
        ParameterError: the recipe has another aggregator, or a setting that needs single updates.
    """
    if not isinstance(recipe.aggregator, SecureModelAggregator):
        found = type(recipe.aggregator).__name__
        raise ParameterError(f"the recipe's aggregator is {found}: it needs SecureModelAggregator")
    for name, instead in SINGLE.items():
        if getattr(recipe, name, None):
            raise ParameterError(f"{name} does not work with secure aggregation: {instead}")
    recipe._job.set_app_packages(PACKAGES)  # noqa: SLF001 - a recipe has no other way to it
    if secure_filter is not None:
        recipe.add_client_input_filter(secure_filter, tasks=[TASK])
        recipe.add_client_output_filter(secure_filter, tasks=[TASK])
    return recipe
