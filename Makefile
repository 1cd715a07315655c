# make docs      guides and reference, as pages in build/docs
# make notebooks lessons as notebooks beside their scripts, run
# make train   build the environment and train the default model
# make test    the same environment plus the development tools; lint, all tests
# make install the environment alone
# make parity  models and layers beside those of other libraries, which only it installs

PYTHON ?= python3
BIN := .venv/bin
NEWEST := .venv-newest
PARITY := .venv-parity
# The first python3.12 that runs, on the path or among pyenv's versions.
PYTHON312 ?= $(shell for p in python3.12 $$HOME/.pyenv/versions/3.12*/bin/python3.12; \
  do $$p -c '' 2>/dev/null && echo $$p && break; done)

.PHONY: install train test lint test-newest parity clean

install: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-docs.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

train: install
	$(BIN)/python train.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

# A folder has the name of the first.
.PHONY: docs notebooks

docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

notebooks: .venv/installed-dev
	$(BIN)/jupytext --quiet --to ipynb --set-kernel python3 --execute lessons/[0-9]*.py

# The newest releases of everything, where a Python 3.12 is on the machine.
test-newest:
ifeq ($(PYTHON312),)
	@echo 'test-newest: no python3.12 on this machine'
else
	$(PYTHON312) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet jax flax optax chex absl-py \
	  ml_collections orbax-checkpoint grain tensorboardX rich sacrebleu safetensors tokenizers matplotlib \
	  flatbuffers pytest pytest-xdist hypothesis
	$(NEWEST)/bin/python -m pytest -n 2 -m smoke tests
endif

$(PARITY)/installed: requirements.txt requirements-parity.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet -r requirements.txt -r requirements-parity.txt
	touch $@

parity: $(PARITY)/installed
	$(PARITY)/bin/python -m pytest parity

clean:
	rm -rf .venv $(NEWEST) $(PARITY)
