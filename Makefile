# make demo    the whole pipeline on Bach chorales, on a fresh clone
# make test    environment and the whole fast suite
# make check   formatting and lint
# make bench   the benchmarks (DATA=folder of real MIDI)
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: env demo test slow gpu check bench

env: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps basic-pitch
	-$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --only-binary :all: tinysoundfont
	touch $@

demo: env
	$(BIN)/woodshed demo --out demo

test: env
	$(BIN)/python -m pytest -n auto

slow: env
	$(BIN)/python -m pytest -m slow

gpu: env
	$(BIN)/python -m pytest -m gpu

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: env
	for file in encode generation training; do $(BIN)/python benchmarks/$$file.py --data $(DATA) --json benchmarks/$$file.json || exit 1; done
