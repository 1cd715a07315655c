"""Text from a trained run."""

from attn.training.checkpoints import Checkpoints
from attn.training.errors import UserError
from attn.training.experiment import make_config_optimizer, make_model
from attn.training.generate import generate
from attn.training.run_directory import RunDirectory
from attn.training.step import init_state
from attn.training.tokenizer import CharTokenizer


def sample(
  workdir: str,
  prompt: str,
  *,
  length: int,
  temperature: float,
  top_k: int | None,
  seed: int,
) -> str:
  """Continue a prompt with the model of a run.

  Args:
    workdir: The run directory.
    prompt: Not empty.
    length: How many characters to draw.
    temperature: 0 takes the likeliest character.
    top_k: Draw from the k likeliest only; None for all.
    seed: The same seed draws the same text.

  Returns:
    The prompt and its continuation; a story of the toy language ends where the
    model ends it.

  Raises:
    UserError: if there is no run or no checkpoint, the prompt is empty or has
      characters the model does not know, or a number is out of range.
  """
  run = RunDirectory(workdir)
  config = run.read_config()
  if not prompt:
    raise UserError('prompt: is empty, wanted at least one character')
  try:
    tokenizer = CharTokenizer.load(run.tokenizer)
  except (OSError, ValueError) as error:
    raise UserError(f'workdir: {run.path} holds no tokenizer') from error
  try:
    tokens = tokenizer.encode(prompt)
  except UserError as error:
    raise UserError(f'prompt: {error}') from error
  model = make_model(config, tokenizer.vocab_size)
  like = init_state(model, make_config_optimizer(config), config.seed)
  state = None
  if run.checkpoints.is_dir():
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep)
    state = checkpoints.restore(like)
    checkpoints.close()
  if state is None:
    raise UserError(f'workdir: {run.path} has no checkpoint yet')
  try:
    drawn = generate(
      model,
      state.params,
      tokens,
      length=length,
      seed=seed,
      temperature=temperature,
      top_k=top_k,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  text = tokenizer.decode(drawn[0].tolist())
  if config.task == 'toy_language':
    text = text.split('\n', 1)[0]
  return prompt + text
