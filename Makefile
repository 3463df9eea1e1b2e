# Every target sets up the virtual environment itself; it needs Python 3.11 and git.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where this workplace has its own kind, kubectl and helm.
TOOLS := if [ -r ../shared/cluster/env ]; then . ../shared/cluster/env; fi;

.PHONY: help demo test lint pipelines serve images charts kind-up kind-images kind-demo cluster-test kind-down lock clean
help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements/all.txt requirements/torch.txt requirements/samples.txt requirements/install.sh pyproject.toml
	./requirements/install.sh $(VENV)
	@touch $@

demo: $(READY) ## The main job at full size: data to a registered ranker, then a report
	$(BIN)/python -m pipelines.demo

test: $(READY) ## All tests, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy feedrank components pipelines serving manifests

serve: $(READY) ## Serve the champion on http://localhost:8080
	$(BIN)/feedrank serve

pipelines: $(READY) ## Compile the KFP pipelines into build/pipelines
	$(BIN)/feedrank pipelines compile

images: ## Build the images of data, train, serve and monitor, and show their sizes
	./images/build.sh

charts: $(READY) ## Check chart and manifests: lint, schemas, policies (needs helm; Go for what is missing)
	.ci/static-checks

kind-up: ## Make a kind cluster with KServe and, where images can be pulled, KFP
	./manifests/kind-up.sh

kind-demo: $(READY) ## The whole story on the kind cluster: install, train, serve, drift, retrain, roll back
	$(TOOLS) $(BIN)/python -m pipelines.kind_demo

cluster-test: $(READY) ## Test images, chart and the release that kind-demo left: changes under load, faults, uninstall
	$(TOOLS) $(BIN)/pytest -m 'cluster or not cluster' tests/images tests/manifests tests/cluster

kind-images: images ## Load the images into the kind cluster
	$(TOOLS) kind load docker-image --name feed $(foreach stage,data train serve monitor,feedrank-$(stage):0.1.0)

kind-down: ## Delete it
	./manifests/kind-down.sh

lock: ## Pin the requirements again
	./requirements/lock.sh

clean: ## Remove the environment and what was built (runs/ stays)
	rm -rf $(VENV) build
