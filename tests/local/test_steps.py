from aggregator.local.steps import step_seconds
from aggregator.wire.operator_messages import RoundEvent


def test_time_by_step_is_from_one_step_to_the_next() -> None:
    events = [
        RoundEvent(0.0, "step", "advertise_keys", "", "", 4),
        RoundEvent(0.5, "answered", "advertise_keys", "hospital-01", "", 0),
        RoundEvent(1.0, "step", "share_keys", "", "", 4),
        RoundEvent(1.75, "closed", "share_keys", "", "", 4),
    ]
    assert step_seconds(events) == {"advertise_keys": 1.0, "share_keys": 0.75}
