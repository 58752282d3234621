# `make bundle` and `make test` set up all that they need on a fresh Debian (12 and newer) or Ubuntu (24.04 and newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    := out
# Tests at a time; those of the lab go one after the other, for they measure.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help bundle test rehearse check golden docs wheel bench fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bundle: $(VENV)/.run ## compile every file of inventories/ into out/ (SECRETS=dir, PAYLOAD=dir fill the ignored overlays)
	@$(BIN)/stowage bundle inventories/*.yaml --output $(OUT) $(if $(SECRETS),--secrets $(SECRETS)) $(if $(PAYLOAD),--payload $(PAYLOAD))

test: $(VENV)/.dev ## the whole test suite, with the real programs (apt-get installs them where this is root)
	@sh tests/setup.sh
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup $(PYTEST_ARGS)

rehearse: $(VENV)/.dev ## run a bundle on hosts with a real systemd, with faults and kills, as root (INVENTORY=file: yours alone)
	@sh tests/setup.sh
	@$(BIN)/python -m pytest tests/lab --rehearse -v --no-header $(if $(INVENTORY),--inventory '$(INVENTORY)') $(PYTEST_ARGS)

check: $(VENV)/.dev ## ruff, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

golden: $(VENV)/.dev ## rewrite out/ and tests/golden/ and say what changed; read the diff before you commit it
	@$(BIN)/python -m pytest -q tests/test_golden.py --update-golden
	@git --no-pager diff --stat -- out tests/golden

docs: $(VENV)/.dev ## rewrite docs/inventory.md and docs/rules.md from the schema and the rules
	@$(BIN)/python docs/generate.py

wheel: $(VENV)/.dev ## build dist/stowage-*.whl
	@rm -rf build dist
	@$(BIN)/python -m build --outdir dist .

bench: $(VENV)/.dev ## measure against bare imports and a bare Jinja loop
	@$(BIN)/python tests/bench/run.py
	@$(BIN)/python tests/bench/payload.py

fuzz: $(VENV)/.dev ## mutated files through every command for ten minutes, with a seed of its own (FUZZ_SECONDS, FUZZ_SEED)
	@PYTHONPATH=.:tests $(BIN)/python tests/fuzz/child.py "$${FUZZ_SEED:-$$(date +%s)}" "$${FUZZ_SECONDS:-600}" tests/fuzz/seeds

clean: ## remove what was built; bundles stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment without pip is a Debian without python3-venv.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "stowage needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || sh tests/setup.sh python3-venv
	@test -x $@ || $(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/pip
	@echo "setting up $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	@echo "setting up $(VENV) for development" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.run
