import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import MessageError
from aggregator.simulate.frames import NOBODY, Frame

FRAMES = st.builds(
    Frame, st.integers(0, NOBODY), st.lists(st.binary(max_size=40), max_size=4).map(tuple), st.booleans()
)


@given(FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    assert Frame.from_bytes(frame.to_bytes()) == frame


@given(frame=FRAMES, data=st.data())
def test_one_that_is_cut_short_or_too_long_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = frame.to_bytes()
    with pytest.raises(MessageError, match="frame"):
        Frame.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(MessageError, match="frame"):
        Frame.from_bytes(whole + b"x")
