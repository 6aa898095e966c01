"""What the hospitals and the server agree on before the run; another run takes another name."""

from clients.adapters.flower import Plan

PLAN = Plan(
    task="breast-cancer",
    clip=4.0,
    weight_max=300,
    train_metrics={"train_loss": 10.0},
    evaluate_metrics={"loss": 10.0, "auc": 1.0},
)
