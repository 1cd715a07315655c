"""Translation with additive attention: Bahdanau et al., 2015.

  python train.py --config=configs/translate_bahdanau.py --workdir=runs/bahdanau
  python sample.py --workdir=runs/bahdanau --prompt='PROMPT'

Two GRUs read the sentence, from either end, and the decoder looks back at it in
every step.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Every field of the experiment; each is a flag, `--config.field=value`."""
  config = ml_collections.ConfigDict()
  # Decides the parameters' start, the sentences and the dropout.
  config.seed = 0
  # 'translation' of little German, 'dates', or 'parallel_text' to train on the
  # file `data`.
  config.task = 'translation'
  # Path of a UTF-8 file, a line each of source, tab, target; `--data=PATH.tsv`
  # sets this and the task.
  config.data = ''
  # Training steps.
  config.steps = 2000
  # About so many tokens, source and target together, are in a batch.
  config.batch_tokens = 4096
  # The longest source in training, in tokens.
  config.max_words = 60

  model = config.model = ml_collections.ConfigDict()
  # 'bottleneck', 'lstm', 'bahdanau', 'luong' or 'transformer'.
  model.kind = 'bahdanau'
  # Width of a token's embedding; of 'transformer' that of everything.
  model.embed_dim = 128
  # Width of a recurrent state.
  model.hidden_dim = 176
  # Layers of 'lstm', 'luong' and 'transformer', on either side.
  model.num_layers = 1
  # Heads of 'transformer'.
  model.num_heads = 4
  # Width inside the feed-forward of 'transformer'.
  model.mlp_dim = 512
  # Of 'luong': 'dot', 'general', 'concat' or 'location'.
  model.score = 'general'
  # Of 'luong': 'global', or the window of 'local-m' and 'local-p'.
  model.locality = 'global'
  # How far that window reaches to either side.
  model.half_width = 10
  # 'luong' reads the source from both ends, not from its last word only.
  model.bidirectional = False
  # 'luong' tells each step what the step before looked at.
  model.input_feeding = True
  # 'bahdanau' keeps count of how much each word was looked at.
  model.coverage = False
  # The most tokens of a source and of a target, ever.
  model.max_source_length = 96
  model.max_target_length = 128
  # On embeddings and on what the vocabulary head reads.
  model.dropout_rate = 0.0

  optimizer = config.optimizer = ml_collections.ConfigDict()
  # 'adamw' or 'muon'.
  optimizer.name = 'adamw'
  # At the end of the warm-up; then a cosine.
  optimizer.learning_rate = 2e-3
  # Steps from 0 to learning_rate.
  optimizer.warmup_steps = 100
  # Of learning_rate, where the cosine ends.
  optimizer.final_fraction = 0.02
  # Adam's decay of the mean of gradients.
  optimizer.beta1 = 0.9
  # Adam's decay of the mean of their squares.
  optimizer.beta2 = 0.98
  # On matrices only.
  optimizer.weight_decay = 0.0
  # The gradient's norm is at most this.
  optimizer.clip_norm = 1.0
  # A step whose gradient is so many times as large as usual is skipped; 0 for
  # never.
  optimizer.spike_factor = 0.0
  # Parts into which a batch is cut, to save memory.
  optimizer.accumulate = 1

  evaluation = config.eval = ml_collections.ConfigDict()
  # Steps between evaluations.
  evaluation.every = 250
  # Sentences of the validation split.
  evaluation.pairs = 128
  # Sentences of the test split, and of those longer than any in training.
  evaluation.test_pairs = 512
  # Steps between log lines.
  evaluation.log_every = 50
  # Translations shown at the end.
  evaluation.samples = 4
  # Beginnings that the search keeps; 1 is greedy.
  evaluation.beam = 4
  # The higher, the longer the translations; 0 compares log-probabilities.
  evaluation.length_penalty = 0.6

  checkpoint = config.checkpoint = ml_collections.ConfigDict()
  # Steps between checkpoints.
  checkpoint.every = 250
  # How many are kept.
  checkpoint.keep = 2
  return config
