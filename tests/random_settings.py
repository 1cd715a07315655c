"""How many random examples to try.

`make test` tries more than 2,500.  More than 25,000:

  ATTN_HYPOTHESIS_SCALE=10 .venv/bin/python -m pytest -n 2 \\
    tests/mask_blocks_test.py tests/mask_tiles_test.py \\
    tests/random_calls_test.py tests/random_values_test.py
"""

import os

import hypothesis

# How many times as many as usual.
_SCALE = float(os.environ.get('ATTN_HYPOTHESIS_SCALE', '1'))


def examples(number):
  """Settings for so many examples, the same ones every time."""
  return hypothesis.settings(
    deadline=None,
    max_examples=max(round(number * _SCALE), 1),
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
