"""Translation as a user runs it: train, look at the run, translate."""

import json
import pathlib
import subprocess

import processes
import pytest
from processes import refused

from attn.training.run_directory import RunDirectory

pytestmark = pytest.mark.xdist_group('translation_run')

# The smallest model and the fewest steps that still do everything.
SMALL = (
  '--config.steps=4',
  '--config.batch_tokens=400',
  '--config.model.embed_dim=8',
  '--config.model.hidden_dim=8',
  '--config.eval.every=2',
  '--config.eval.pairs=5',
  '--config.eval.test_pairs=7',
  '--config.eval.log_every=1',
  '--config.eval.samples=2',
  '--config.checkpoint.every=2',
)
NUMBERS = {
  'eins': 'one',
  'zwei': 'two',
  'drei': 'three',
  'vier': 'four',
  'sieben': 'seven',
}


def train(workdir: pathlib.Path, config: str, *flags: str):
  return processes.run(
    'train.py',
    f'--config=configs/{config}.py',
    f'--workdir={workdir}',
    *SMALL,
    *flags,
  )


def losses(workdir: pathlib.Path) -> list[tuple[str, int, float]]:
  return [
    (line['split'], line['step'], line['loss'])
    for line in RunDirectory(workdir).read_metrics()
  ]


@pytest.fixture(scope='module')
def dates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A finished run on dates; an unlikely share of them is right."""
  workdir = tmp_path_factory.mktemp('dates') / 'run'
  result = train(workdir, 'dates')
  assert result.returncode == 0, result.stderr
  assert 'exact match' in result.stdout
  return workdir


@pytest.fixture(scope='module')
def table(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Forty lines: numbers, and numbers in another language."""
  words = list(NUMBERS)
  lines = []
  for i in range(40):
    said = [words[i % 5], words[i // 5 % 5], words[i // 3 % 5]][: 1 + i % 3]
    lines.append(' '.join(said) + '\t' + ' '.join(NUMBERS[x] for x in said))
  path = tmp_path_factory.mktemp('table') / 'numbers.tsv'
  path.write_text('\n'.join(lines) + '\n')
  return path


@pytest.fixture(scope='module')
def numbers(
  table: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """A finished run on a file of the user's."""
  workdir = tmp_path_factory.mktemp('numbers') / 'run'
  flags = (f'--data={table}', '--config.model.kind=luong')
  result = train(workdir, 'translate_bahdanau', *flags)
  assert result.returncode == 0, result.stderr
  return workdir


def test_a_run_leaves_what_it_promises(dates: pathlib.Path):
  summary = json.loads((dates / 'summary.json').read_text())
  assert summary['steps'] == 4
  assert 0 <= summary['exact_match'] <= 1
  assert 0 <= summary['bleu'] <= 100
  # Dates have no gold links, and none is longer than those trained on.
  assert 'alignment_error_rate' not in summary
  assert 'exact_match_longer' not in summary
  for name in ('loss', 'alignment', 'length'):
    assert (dates / 'figures' / f'{name}.png').stat().st_size > 1000
  samples = (dates / 'samples.txt').read_text().splitlines()
  assert len(samples) == 2
  page = (dates / 'report.html').read_text()
  for sample in samples:
    assert ' → ' in sample
    assert sample in page
  data = page.split('<script type="application/json" id="data">')[1]
  alignments = json.loads(data.split('</script>')[0])['alignments']
  assert [''.join(x['source']) for x in alignments] == [
    sample.split(' → ')[0] for sample in samples
  ]
  measured = [
    line
    for line in RunDirectory(dates).read_metrics()
    if line['split'] == 'validation'
  ]
  assert [line['step'] for line in measured] == [2, 4]
  assert all(0 <= line['exact_match'] <= 1 for line in measured)


def test_a_killed_run_ends_as_one_that_was_not(
  dates: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  arguments = (
    'train.py',
    '--config=configs/dates.py',
    f'--workdir={workdir}',
    *SMALL,
  )
  process = processes.start(*arguments)
  while not (workdir / 'checkpoints' / '2').exists():
    assert process.poll() is None, process.stderr.read()
    try:
      process.wait(timeout=0.01)
    except subprocess.TimeoutExpired:
      continue
  process.kill()
  process.communicate()
  result = train(workdir, 'dates')
  assert result.returncode == 0, result.stderr
  assert 'going on after step' in result.stdout
  assert losses(workdir) == losses(dates)
  summaries = [
    json.loads((path / 'summary.json').read_text()) for path in (workdir, dates)
  ]
  for name in ('loss', 'exact_match', 'bleu'):
    assert summaries[0][name] == summaries[1][name]


def test_a_date_is_translated_with_its_alignment(dates: pathlib.Path):
  prompt = '3 March 2021'
  result = processes.run(
    'sample.py', f'--workdir={dates}', f'--prompt={prompt}', '--beam=2'
  )
  assert result.returncode == 0, result.stderr
  said, blank, *looks = result.stdout.rstrip('\n').split('\n')
  assert blank == ''
  # A line for each character that was said, and where it looked.
  assert [line.split('  ← ')[0].strip() for line in looks] == [*said.strip()]
  assert all('%' in line or line.endswith('← ') for line in looks)


def test_unknown_words_are_reported(numbers: pathlib.Path):
  prompt = 'eins hundert zwei elf hundert'
  result = processes.run(
    'sample.py', f'--workdir={numbers}', f'--prompt={prompt}'
  )
  assert result.returncode == 0, result.stderr
  assert '(hundert, elf: never seen in training)' in result.stdout


def test_a_model_without_attention_has_no_alignment(
  table: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  result = train(
    workdir, 'translate_bahdanau', f'--data={table}', '--config.model.kind=lstm'
  )
  assert result.returncode == 0, result.stderr
  assert not (workdir / 'figures' / 'alignment.png').exists()
  page = (workdir / 'report.html').read_text()
  assert '"alignments":[]' in page


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--prompt=eins', '--beam=0'], ['beam', '0', 'at least 1']),
    (['--prompt= '], ['prompt', 'empty', 'word']),
    (
      ['--prompt=' + 'eins ' * 97],
      ['prompt', '97 words', '96', 'max_source_length'],
    ),
  ],
)
def test_sample_refused(
  flags: list[str], words: list[str], numbers: pathlib.Path
):
  refused(processes.run('sample.py', f'--workdir={numbers}', *flags), *words)


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--config.eval.beam=0'], ['config.eval.beam', '0', 'at least 1']),
    (['--config.model.kind=oracle'], ['config.model.kind', 'oracle']),
    (['--config.task=text'], ['config.task', 'text', 'parallel_text']),
    (['--config.task=parallel_text'], ['config.data', 'no path']),
    (['--config.batch_tokens=9'], ['config.batch_tokens', '9']),
    (
      ['--config.model.max_source_length=50'],
      ['config.model.max_source_length', '50', 'at least 90'],
    ),
    (['--config.optimizer.accumulate=2'], ['accumulate', '2', 'wanted 1']),
  ],
)
def test_flag_refused(
  flags: list[str], words: list[str], tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  refused(train(workdir, 'translate_bahdanau', *flags), *words)
  assert not workdir.exists()


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('eins one', ['line 3', 'tab']),
    ('eins\tone\t1', ['line 3']),
    ('eins\t', ['line 3', 'empty']),
    ('eins ' * 70 + '\tone', ['line 3', '60']),
  ],
)
def test_a_line_that_is_no_pair_is_refused(
  line: str, words: list[str], table: pathlib.Path, tmp_path: pathlib.Path
):
  lines = table.read_text().splitlines()
  lines[2] = line
  path = tmp_path / 'wrong.tsv'
  path.write_text('\n'.join(lines))
  workdir = tmp_path / 'run'
  refused(train(workdir, 'translate_bahdanau', f'--data={path}'), *words)
  assert not workdir.exists()
