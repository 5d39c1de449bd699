# DUO Studio. Every target first installs what it needs into .venv; only Python 3.11+ and make must be there.
#   PYTHON=/path/to/python   the interpreter to make .venv with    TORCH_INDEX=<url>   where torch comes from
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
COUNT ?= 50
QUICK ?=
METHODS ?=

.DEFAULT_GOAL := help
.PHONY: help studio demo test check format bench faults toybox sample screenshots clean

help:  ## this list
	@echo "DUO Studio: make an image model forget one thing, and see what it still draws."
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "  make %-12s %s\n", $$1, $$2 }'

$(VENV)/.installed: requirements.txt scripts/install.sh
	@scripts/install.sh $(VENV) requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@scripts/install.sh $(VENV) requirements.txt requirements-dev.txt
	@touch $@

studio: $(VENV)/.installed  ## open the page at http://127.0.0.1:7860 (GRADIO_SERVER_PORT picks another port)
	@$(BIN)/python app.py

demo: $(VENV)/.installed  ## the whole method from zero, into demo/: about 8 minutes on two idle cores (SEED=1; QUICK=1: 5; METHODS=all: 25)
	@$(BIN)/python -m studio demo --seed $(SEED) $(if $(filter-out 0,$(QUICK)),--quick) $(if $(METHODS),--methods $(METHODS))

test: $(VENV)/.installed-dev  ## every test: the quick ones side by side, then the slow ones and a browser's, two by two
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not browser" -n 2 --dist loadfile
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and browser" -n 2 --dist loadfile

check: $(VENV)/.installed-dev  ## ruff, mypy, and every test (the docs' tests among them)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

format: $(VENV)/.installed-dev  ## put the code into ruff's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## all benchmarks; each ends with a line of JSON
	@for file in benchmarks/bench_*.py; do $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

bench-%: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks.bench_$(subst -,_,$*)

faults: $(VENV)/.installed-dev  ## kill worker, page and both again and again while somebody works (COUNT=50 SEED=0)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --count $(COUNT) --seed $(SEED)

toybox: $(VENV)/.installed  ## train the embedded checkpoint anew (hours on two cores, minutes on a GPU)
	@$(BIN)/python -m models.toybox.train

sample: $(VENV)/.installed  ## make the shipped sample project anew, after the embedded checkpoint changed
	@rm -rf .sample-data && DUO_STUDIO_DATA=$(CURDIR)/.sample-data $(BIN)/python -m studio demo --seed 0 --out .sample-data/demo
	@DUO_STUDIO_DATA=$(CURDIR)/.sample-data $(BIN)/python -m studio.sample && rm -rf .sample-data

screenshots: $(VENV)/.installed-dev  ## take the README's screenshots of the running page
	@$(BIN)/python -m tests.browser.screenshots

clean:  ## remove .venv, the demo's output and caches; the studio's data stay
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
