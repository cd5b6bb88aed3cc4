# Everything runs in VENV, which `make env` sets up: make test VENV=/my/venv
VENV ?= .venv
PYTHON ?=
PY := $(VENV)/bin/python
DOCS_VENV ?= .venv-docs
SHELL_SCRIPTS := $(wildcard tools/*.sh) .ci/run

export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help env test sanitize lint format demo docs clean

help:
	@echo 'make demo     train a small detector on toy traffic videos and compare it'
	@echo '              dense and with Skip-Conv: a table, a plot, an annotated video'
	@echo '              (usually 13 to 25 min on 2 cores, after the set-up)'
	@echo 'make test     run the tests (usually 10 min on 2 cores, after the set-up)'
	@echo 'make sanitize test the C++ operators with the sanitizers of g++ (5 min)'
	@echo 'make lint     check style (seconds)'
	@echo 'make format   mend style (seconds)'
	@echo 'make docs     build the documentation into site/ (1 min, in an environment'
	@echo '              of its own, $(DOCS_VENV))'
	@echo 'make env      set up $(VENV) (6 min the first time, then a second);'
	@echo '              all but docs do it by themselves'
	@echo 'make clean    remove build products and caches, not $(VENV) nor work_dirs'

env:
	@tools/setup_env.sh

test: env
	@echo 'Running the tests (usually 10 min on 2 cores).'
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --max-worker-restart=0

sanitize: env
	@tools/sanitize.sh

lint: env
	@echo 'Checking style (seconds).'
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@for script in $(SHELL_SCRIPTS); do bash -n $$script || exit 1; done

format: env
	@echo 'Mending style (seconds).'
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

demo: env
	@echo 'Running the demo (usually 13 to 25 min on 2 cores).'
	@$(PY) tools/demo.py

# The pages are made from the sources alone: no torch is needed for that.
$(DOCS_VENV)/.ready: pyproject.toml
	@$(or $(PYTHON),python3) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install -q --upgrade 'pip>=25.1'
	@$(DOCS_VENV)/bin/python -m pip install -q --group docs
	@touch $@

docs: $(DOCS_VENV)/.ready
	@echo 'Building the documentation (1 min).'
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict
	@echo 'Done: site/index.html'

clean:
	@echo 'Removing build products and caches.'
	@rm -rf build dist site .dist_test .pytest_cache .ruff_cache
	@find mmskip tests tools configs -name __pycache__ -type d \
		-exec rm -rf {} +
