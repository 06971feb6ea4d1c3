# fedgram: every target does its own set-up in .venv; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   := results/demo
FEDUMM := results/fedumm

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

install: $(READY) ## create .venv with fedgram, the demo's encoders and the developers' tools

demo: $(READY) ## train jobs/few-labels over six sites with `nvflare simulator`, and compare with staying at home
	$(BIN)/fedgram demo $(DEMO)

fedumm: $(READY) ## train jobs/fedumm: four sites with a model that answers questions and makes pictures
	$(BIN)/fedgram demo $(FEDUMM) --job fedumm

lint: $(READY) ## ruff and pyrefly
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --summary=none

test: $(READY) ## lint and types beside the tests: what CI runs
	@$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & \
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20; tests=$$?; \
	wait $$!; lint=$$?; cat $(VENV)/lint.log; exit $$((tests || lint))

docs: $(READY) ## build the documentation into results/docs
	$(BIN)/mkdocs build --strict

test-slow: $(READY) ## the tests that take minutes, and new examples for every property
	$(BIN)/python -m pytest -m 'slow or hypothesis' --hypothesis-profile explore --durations 20

federation: $(READY) ## the demo job, shortened, on a provisioned federation of this machine, with mutual TLS
	$(BIN)/python provisioning/demo.py results/federation

test-federation: $(READY) ## tests on real processes: failures, security, the runbook
	$(BIN)/python -m pytest -m federation

bench: $(READY) ## time and memory of a GeoDoRA step against stock PEFT
	$(BIN)/python benchmarks/step_cost.py

bench-gpu: $(READY) ## tokens per second and memory on a GPU of 80 GB against stock PEFT, 1B and 7B
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/gpu_unified.py

bench-worth: $(READY) ## together against home in every regime, and the pages of it: most of a day
	$(MAKE) -C research worth

bench-page: $(READY) ## the pages, the figure and the table of evidence from the rows
	$(MAKE) -C research page

bench-attacks: $(READY) ## what lying sites cost the honest ones under every rule, and the page of it: an hour on one core
	$(BIN)/python -m research.attacks
	$(BIN)/python -m research.attacks.page

bench-leakage: $(READY) ## what a server learns of a site's samples in every mode, and the page of it: three quarters of an hour on one core
	$(BIN)/python -m research.leakage
	$(BIN)/python -m research.leakage.page

bench-privacy: $(READY) ## what differential privacy costs on two federations, its audit, and the tables of both: an hour on one core
	$(BIN)/python -m research.privacy
	$(BIN)/python -m research.privacy.audit
	$(BIN)/python -m research.privacy.page

anchors: $(READY) ## rebuild the demo's anchor sets and data from their sources
	$(BIN)/python anchors/build_carnivora.py
	$(BIN)/python anchors/deal_few.py
	$(BIN)/python -m research.scenes.anchors
	$(BIN)/python -m research.scenes.demo

clean: ## remove .venv and results
	rm -rf $(VENV) results

.PHONY: help install demo fedumm lint test docs test-slow federation test-federation bench bench-gpu bench-worth bench-page bench-attacks bench-leakage bench-privacy anchors clean
