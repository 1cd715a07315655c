"""A tiny causal language model on the toy language: the default experiment.

  python train.py
  python train.py --config=configs/tiny.py --config.model.num_layers=3

Expect, on two CPU cores and in about two minutes, a loss within 0.03 nats per
character of the floor, and at least 98% of the far facts recalled.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
  """Every field of the experiment; each is a flag, `--config.field=value`."""
  config = ml_collections.ConfigDict()
  # Decides the parameters' start, the stories and the dropout.
  config.seed = 0
  # 'toy_language', or 'text' to train on the file `data`.
  config.task = 'toy_language'
  # Path of a UTF-8 text; `--data=PATH` sets this and the task.
  config.data = ''
  # Tokens of a text: its 'characters', its 'bytes', or byte pairs, 'bpe'.
  config.tokenizer = 'characters'
  # How many tokens 'bpe' makes.
  config.vocab_size = 512
  # Training steps.
  config.steps = 800
  # Steps compiled into one call: with tiny steps, starting each takes time.
  # Divides `steps` and every interval below.
  config.steps_at_once = 1
  # Rows per step.
  config.batch_size = 8
  # Characters per row: the most the model sees at once.
  config.context = 216

  model = config.model = ml_collections.ConfigDict()
  # Transformer blocks.
  model.num_layers = 2
  # Width of the residual stream.
  model.embed_dim = 64
  # Query heads.
  model.num_heads = 4
  # Key/value heads; 0 for as many as query heads.
  model.num_kv_heads = 0
  # Width inside the feed-forward.
  model.mlp_dim = 256
  # Which tokens see which.  'full': all before.  'sliding_window': the nearest.
  # 'dilated': the nearest of every `dilation`-th.  'chunked': those of the same
  # chunk.  'global': the nearest, and the first of the story, which see all.
  # 'prefix': all before, and the first of the story each other, which are then
  # given and not predicted.  'none': leave attention out.
  model.attention = 'full'
  # Keys that a window sees, the token itself included: of 'sliding_window',
  # 'dilated' and 'global' attention.
  model.window = 64
  # Distance between the keys of 'dilated' attention.
  model.dilation = 2
  # Tokens in a chunk of 'chunked' attention.
  model.chunk_size = 64
  # How many tokens see all and are seen by all in 'global' attention.
  model.global_tokens = 4
  # How many tokens are given in 'prefix' attention.
  model.prefix_length = 32
  # 'learned', 'sinusoidal', 'rotary', 'alibi', 'relative_bias' or 'none'.
  model.positions = 'rotary'
  # Rows of the table that 'relative_bias' learns in every layer.
  model.relative_buckets = 32
  # From here on all distances share the last row.
  model.relative_max_distance = 128
  # Base of the rotary angles.
  model.rope_base = 10_000.0
  # 'layernorm' or 'rmsnorm'.
  model.norm = 'rmsnorm'
  # 'gelu', 'relu2' or 'swiglu'.
  model.activation = 'relu2'
  # Normalise queries and keys.
  model.qk_norm = True
  # Bend the scores towards ± this, before positions; 0 for no cap.
  model.soft_cap = 0.0
  # Learn a score per head that belongs to no key.
  model.sinks = False
  # What computes attention: 'dense', 'blockwise', or None for the best.
  model.implementation = config_dict.placeholder(str)
  # The embedding table is also the vocabulary head.
  model.tied_head = False
  # Embed also the last 2, 3, ... up to so many tokens together; 0 for tokens
  # alone.
  model.ngrams = 0
  # Rows of the table of each length, which n-grams share by chance.
  model.ngram_rows = 16384
  # Width of a row.
  model.ngram_dim = 48
  # Begin with what the text shows to follow the last tokens, up to so many, and
  # learn what is left; 0 to learn all.
  model.counts = 0
  # Contexts that are kept.
  model.count_rows = 262144
  # Divide each embedding by its root mean square.
  model.embed_norm = False
  # Of the matrices at the start; 0 for one over the root of their inputs.
  model.kernel_std = 0.0
  # What each half of a block adds, and the vocabulary head, start at 0.
  model.zero_init = False
  # Bend the logits towards ± this; 0 for no cap.
  model.logit_cap = 0.0
  # On attention weights and on what each half of a block adds.
  model.dropout_rate = 0.0

  optimizer = config.optimizer = ml_collections.ConfigDict()
  # 'adamw' or 'muon'.
  optimizer.name = 'muon'
  # At the end of the warm-up.
  optimizer.learning_rate = 6e-3
  # Steps from 0 to learning_rate.
  optimizer.warmup_steps = 50
  # The last share of the steps, in which the rate falls in a straight line; 0
  # for a cosine that begins after the warm-up.
  optimizer.decay_fraction = 0.0
  # With Muon, of what is no matrix and of the vocabulary head, which then is
  # Adam's too; 0 for learning_rate, and the head is Muon's.
  optimizer.adam_learning_rate = 0.0
  # With Muon, of embedding tables, which then are Adam's; 0 for Muon's.
  optimizer.table_learning_rate = 0.0
  # Weight decay of Adam's tables.
  optimizer.table_decay = 0.0
  # Of learning_rate, where it ends.
  optimizer.final_fraction = 0.02
  # Adam's decay of the mean of gradients.
  optimizer.beta1 = 0.9
  # Adam's decay of the mean of their squares.
  optimizer.beta2 = 0.95
  # On matrices only.
  optimizer.weight_decay = 0.1
  # The gradient's norm is at most this.
  optimizer.clip_norm = 1.0
  # A step whose gradient is so many times as large as usual is skipped; 0 for
  # never.
  optimizer.spike_factor = 0.0
  # Parts into which a batch is cut, to save memory.
  optimizer.accumulate = 1

  mesh = config.mesh = ml_collections.ConfigDict()
  # All devices are used: what follows multiplies to their number, and -1 takes
  # what is left.  Devices that share the rows of a batch.  On a CPU, cores.
  mesh.data = 1
  # Likewise, and each keeps a part of the parameters only.
  mesh.fsdp = 1
  # Devices that share heads, the inside of the feed-forward, the vocabulary.
  mesh.tensor = 1
  # Devices that share the characters of a row.
  mesh.sequence = 1

  distributed = config.distributed = ml_collections.ConfigDict()
  # Processes that share the devices of the mesh; -1 for as many as a scheduler
  # says (SLURM, Open MPI, Cloud TPU, GKE), and nothing else is to be said.
  distributed.processes = 1
  # HOST:PORT of process 0, and which process this is.
  distributed.coordinator = ''
  distributed.process = 0
  # Seconds that one waits for another at the start.
  distributed.timeout = 60

  evaluation = config.eval = ml_collections.ConfigDict()
  # Steps between evaluations.
  evaluation.every = 100
  # Evaluate before the first step as well.
  evaluation.first = False
  # Rows of stories in the validation split (a text has its own tenth).
  evaluation.rows = 128
  # Steps between log lines.
  evaluation.log_every = 25
  # Samples written at the end.
  evaluation.samples = 3
  # Their temperature.
  evaluation.temperature = 1.0

  checkpoint = config.checkpoint = ml_collections.ConfigDict()
  # Steps between checkpoints.
  checkpoint.every = 100
  # How many are kept.
  checkpoint.keep = 2
  return config
