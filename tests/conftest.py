"""What several files of tests begin with."""

import pathlib

import processes
import pytest

from tests import browsing, report_cases


@pytest.fixture(scope='session')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A finished run."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  result = processes.train(workdir)
  assert result.returncode == 0, result.stderr
  return workdir


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
  from playwright import sync_api

  switches = 'no-sandbox disable-gpu disable-quic no-first-run disable-sync '
  switches += 'disable-background-networking disable-component-update'
  with sync_api.sync_playwright() as playwright:
    context = playwright.chromium.launch_persistent_context(
      tmp_path_factory.mktemp('profile'),
      executable_path=browsing.CHROMIUM,
      args=[f'--{switch}' for switch in switches.split()],
      offline=True,
      # Tints are read at once, not while they change.
      reduced_motion='reduce',
      viewport={'width': 1280, 'height': 1000},
    )
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def visit(browser, tmp_path):
  """Opens a page, and complains of whatever the browser complains of."""
  complaints, requests, pages = [], [], []

  def visit(write=report_cases.write, scheme='light', width=1280, **changes):
    path = write(tmp_path / 'report.html', **changes)
    page = browser.new_page()
    pages.append(page)
    page.on('console', lambda message: complaints.append(message.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('request', lambda request: requests.append(request.url))
    page.emulate_media(color_scheme=scheme, reduced_motion='reduce')
    page.set_viewport_size({'width': width, 'height': 1000})
    page.goto(path.as_uri())
    browsing.settle(page)
    return page

  yield visit
  assert complaints == []
  assert [url for url in requests if not url.startswith('data:')] == [
    (tmp_path / 'report.html').as_uri() for _ in pages
  ]
  for page in pages:
    page.close()
