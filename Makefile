# Every target runs inside .venv, which the first one that needs it makes and fills.
# Recipes use relative paths alone, so the path of this folder may hold spaces.

PYTHON ?= python3

RUN = .venv/bin/python
TRAINING = tests/training tests/cohorts tests/recipes tests/jobs tests/specialists tests/comparison \
	tests/test_distillation.py tests/test_temperatures.py tests/test_ensembles.py \
	tests/test_transformers_students.py
INSTALL = $(RUN) -m pip install -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-bfloat16 test-long test-some-long check format format-check lint types layers clean distclean

help: ## list the targets
	@echo 'Usage: make TARGET [PYTHON=python3.12] [ARGS="options of pytest"]'
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target what; do \
		printf '  %-16s%s\n' "$$target" "$$what"; \
	done

demo: .venv/.installed ## install attar and reproduce the paper's MNIST experiment in small
	$(RUN) -m attar reproduce mnist --quick

test: .venv/.installed-dev ## run the tests; ARGS="-k losses" chooses among them
	$(RUN) -m pytest -n auto --dist loadfile -m 'not long' $(ARGS)

# precision="auto" is bfloat16 on processors with bfloat16 products, float32 on others. This target runs it anywhere.
test-bfloat16: .venv/.installed-dev ## run the training tests in bfloat16, on any processor
	ATTAR_PRECISION=bfloat16 $(RUN) -m pytest -n auto --dist loadfile -m 'not long and not ray' \
		$(TRAINING) $(ARGS)

test-long: .venv/.installed-dev ## run all tests, including long ones, in both precisions
	ATTAR_PRECISION=float32 $(RUN) -m pytest -n auto --dist loadfile $(ARGS)
	ATTAR_PRECISION=bfloat16 $(RUN) -m pytest -n auto --dist loadfile $(ARGS)

test-some-long: .venv/.installed-dev ## run some of the long tests, for continuous integration
	$(RUN) -m pytest -n auto --dist loadfile -m long \
		-k 'two_processes or four_workers or killed_at_random or hand_down' $(ARGS)

check: format-check lint types layers test ## all that a change must pass: format, lint, types, layers, tests

format: .venv/.installed-dev ## sort the imports and format the code
	$(RUN) -m ruff check --select I --fix .
	$(RUN) -m ruff format .

format-check: .venv/.installed-dev ## is the code formatted?
	$(RUN) -m ruff format --check .

lint: .venv/.installed-dev ## ruff's rules
	$(RUN) -m ruff check .

types: .venv/.installed-dev ## mypy, strict
	$(RUN) -m mypy

layers: .venv/.installed-dev ## do imports point downwards?
	$(RUN) .venv/bin/lint-imports

clean: ## remove caches and built packages
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv

# What is wrong with $(PYTHON), in one line; empty if it will do.
PROBE = import sys; \
	sys.version_info < (3, 11) and sys.exit("found Python " + sys.version.split()[0]); \
	from importlib.util import find_spec; \
	find_spec("ensurepip") or sys.exit("its venv module is missing (Debian, Ubuntu: apt install python3-venv)")
python_fault = $(shell fault=$$("$(PYTHON)" -c '$(PROBE)' 2>&1) || echo "$${fault:-it does not start}")
require_python = $(if $(python_fault),$(error attar needs Python 3.11 or later with venv, and \
	PYTHON=$(PYTHON) will not do: $(python_fault)))

# Does .venv hold a Python that is new enough, and pip? If not (an interrupted start, say), begin anew.
venv_usable = $(shell .venv/bin/python -c \
	'import pip, sys; print("yes" if sys.version_info >= (3, 11) else "")' 2>/dev/null)
make_venv = $(if $(venv_usable),,$(require_python)"$(PYTHON)" -m venv --clear .venv)

# A stamp is written last, so an install that was interrupted leaves none. It holds the path of this
# folder, which an editable install depends on: in a tree that was moved or copied, install again.
ifneq ($(shell test "$$(cat .venv/.installed 2>/dev/null)" = "$$(pwd -P)" || echo elsewhere),)
.PHONY: .venv/.installed
endif

.venv/.installed: pyproject.toml constraints.txt
	$(make_venv)
	$(INSTALL) -e .
	@pwd -P > $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) -e '.[dev]'
	@touch $@
