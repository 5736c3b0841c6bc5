# Everything sets itself up: Python 3.11 or newer, make and a package index are all that is needed.
VENV   ?= .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(p) >/dev/null 2>&1 && $(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: fuzz demo test test-torch proof lint types bench clean help
help:            ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(STAMP)   ## a market-data service stops repeating itself
	@$(BIN)/python examples/quickstart.py

test: $(STAMP)   ## lint, types and all tests
	@sh tests/servers.sh $(VENV)/servers
	@sh tests/other_pandas.sh $(BIN)/python $(VENV)/other-pandas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-torch: $(STAMP) ## the tests of tensors; installs torch, which is large
	$(BIN)/python -m pip install --quiet --group torch
	$(BIN)/python -m pytest tests/test_torch.py tests/test_values.py -k torch

proof: $(STAMP)  ## the long search: schedules, planted mistakes, real processes
	@sh tests/servers.sh $(VENV)/servers
	$(BIN)/python -m tests.proof
	$(BIN)/python -m tests.migrations

fuzz: $(STAMP)   ## an hour of damaged envelopes, and 10,000 values of each type
	$(BIN)/python -m tests.fuzz

lint: $(STAMP)   ## ruff only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict and pyright
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(STAMP)  ## ratios against peers and limits, in one run
	$(BIN)/python -m bench

clean:           ## remove what was set up
	rm -rf $(VENV)
