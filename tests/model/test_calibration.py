"""The mean score is the click rate, of whatever logits and however few rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit

from feedrank.model.calibration import logit_offset

LOGITS = st.integers(1, 300).flatmap(lambda rows: arrays.arrays(float, rows, elements=st.floats(-12, 12)))


@given(logits=LOGITS, data=st.data())
def test_the_mean_probability_becomes_the_share_of_clicks(logits: np.ndarray, data: st.DataObject):
    targets = data.draw(arrays.arrays(np.float32, len(logits), elements=st.sampled_from([0.0, 1.0])))

    offset = logit_offset(logits, targets)

    rate = (targets.sum() + 0.5) / (len(targets) + 1)
    assert np.isclose(expit(logits + offset).mean(), rate, atol=1e-4)
