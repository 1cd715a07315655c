"""What tests write reports of."""

import numpy as np

from attn.training.report import write_report
from attn.training.task import Alignment

L, N = 2, 3
TEXT = (
  '\nDan kicks a bun. And Rob waits in mud. He reads [where is Rob? In mud!] '
  'Nobody knows how long a story has to be before it wraps. We miss Dan.'
)
MARKED = [38, 60]
NASTY = (
  '</script><script>hacked=1</script><b>&amp;"\'{{style}}<!--\\n\t\r\n日本 '
  'é\U0001f600\x00\u2028 אב $x$'
)
HISTORY = [
  line
  for step in (0, 100, 200, 300)
  for line in (
    {'step': step, 'split': 'train', 'loss': 4.5 - step / 100, 'seconds': 1.0},
    {
      **{'step': step, 'split': 'validation', 'seconds': 20 + step / 10},
      **{'loss': 4.0 - step / 100, 'far_fact_accuracy': step / 300},
    },
  )
]


def random_weights(length, seed=0):
  scores = np.random.default_rng(seed).normal(0, 3, (L, N, length, length))
  scores = np.where(np.tri(length), scores, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


WEIGHTS = random_weights(len(TEXT))


# "ruft" and "an" are one word in English.
ALIGNMENT = Alignment(
  source=('sie', 'ruft', 'ihn', 'an'),
  target=('she', 'calls', 'him'),
  weights=np.array(
    [[0.9, 0.1, 0.0, 0.0], [0.0, 0.5, 0.0, 0.5], [0.2, 0.0, 0.8, 0.0]]
  ),
  gold=frozenset({(0, 0), (1, 1), (3, 1), (2, 2)}),
)


def write(path, **changes):
  everything = {
    **{'title': 'Run tiny', 'summary': {'steps': 1000, 'loss': 0.46917}},
    **{'history': HISTORY, 'floor': 0.7, 'samples': ['One.', 'Two.']},
    **{'text': TEXT, 'weights': WEIGHTS, 'marked': MARKED, **changes},
  }
  write_report(path, **everything)
  return path


def write_nasty(path):
  return write(
    path,
    title=NASTY,
    summary={NASTY: NASTY},
    samples=[NASTY],
    text=NASTY,
    weights=random_weights(len(NASTY)),
    marked=[len(NASTY) - 1],
  )


def visible(text):
  """What a page shows for characters that cannot be seen."""
  return text.translate(str.maketrans(' \n\t\r\0', '␣⏎⇥␍␀'))
