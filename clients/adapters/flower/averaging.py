"""Which of Flower's strategies a secure sum can feed: those that begin with the weighted mean of all replies.

What counts is the class whose `aggregate_train` a strategy runs. A strategy of one's own that inherits it from one of
these is admitted; one that brings its own is asked to say that it averages.
"""

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Strategy

from aggregator.errors import ParameterError

AVERAGING = (FedAvg, FedAvgM, FedProx, FedAdagrad, FedAdam, FedYogi)

_DISTANCES = "it measures the distances between single updates"
_ORDER = "it sorts the single updates, entry by entry"
_TREES = "it takes the trees of single nodes, which have no mean"
_SERVER_CLIPS = "it clips single updates on the server; let nodes clip and the noise be added outside"
_COUNTS = "it counts the single replies; wrap it the other way round, around SecureStrategy"
REFUSED = {
    "Bulyan": _DISTANCES,
    "DifferentialPrivacyClientSideAdaptiveClipping": "it reads the norm bit of every single node",
    "DifferentialPrivacyClientSideFixedClipping": _COUNTS,
    "DifferentialPrivacyServerSideAdaptiveClipping": _SERVER_CLIPS,
    "DifferentialPrivacyServerSideFixedClipping": _SERVER_CLIPS,
    "FedMedian": _ORDER,
    "FedTrimmedAvg": _ORDER,
    "FedXgbBagging": _TREES,
    "FedXgbCyclic": _TREES,
    "Krum": _DISTANCES,
    "MultiKrum": _DISTANCES,
    "QFedAvg": "it weighs every single update by that node's own loss",
}


def check_averages(strategy: Strategy, averaging: bool) -> None:
    """Refuse a strategy that the weighted mean alone cannot feed.

    Args:
        strategy: that is to be wrapped.
        averaging: the caller's word that a strategy unknown here uses nothing but weighted means.

    Raises:
        ParameterError: it needs single updates, or nobody says that it doesn't.
    """
    name = type(strategy).__name__
    owner = next(kind for kind in type(strategy).__mro__ if "aggregate_train" in vars(kind))
    for kind in type(strategy).__mro__:
        if kind.__module__.startswith("flwr.") and kind.__name__ in REFUSED and issubclass(kind, owner):
            raise ParameterError(f"{name} needs single updates, and a secure sum has none: {REFUSED[kind.__name__]}")
    if not averaging and owner not in AVERAGING:
        raise ParameterError(
            f"{name} aggregates in its own way: pass averaging=True if it uses nothing but the weighted mean of replies"
        )
