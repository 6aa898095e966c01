"""Gradient boosting on the sums of all sites' histograms: XGBoost's trees, without the records, and without XGBoost.

settings  ──>  state  ──>  contribution (a site)  ──>  the engine's sum  ──>  advanced (everybody)  ──>  state ...

The loop over rounds is `clients.adapters.xgboost`.
"""

from clients.boosting.model_json import to_xgboost_json
from clients.boosting.settings import Objective, Settings
from clients.boosting.state import State
from clients.boosting.training import Records, advanced, contribution

__all__ = ["Objective", "Records", "Settings", "State", "advanced", "contribution", "to_xgboost_json"]
