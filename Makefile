# `make` lists what there is. All targets may be run again and again, and work offline once installed.
.DEFAULT_GOAL := help
.PHONY: help run test bench bench-durability bench-data bench-stream bench-strategies torture lint add pins clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

run:  ## install what the service needs and start it on http://127.0.0.1:8006
	@scripts/install run
	@exec .venv/bin/vnpy-core serve --config vnpy_config/service.toml --hints

test:  ## install what the tests need, then run linters, type checks and all tests
	@scripts/install test
	@scripts/servers
	@scripts/check all

bench:  ## what the service costs beside a plain VnPy: start, CPU, memory, an order
	@scripts/install test
	@.venv/bin/python benchmarks/footprint.py

bench-durability:  ## what the journal costs: events/s and what an order waits, beside a bare INSERT loop
	@scripts/install test
	@.venv/bin/python benchmarks/durability.py

bench-data:  ## what storing, reading and recording ticks costs, beside vnpy_sqlite
	@scripts/install test
	@.venv/bin/python benchmarks/data.py

bench-stream:  ## how quick streaming is: latency, fan-out, edges, Redis, beside bare uvicorn and vnpy_webtrader
	@scripts/install test
	@scripts/servers
	@.venv/bin/python benchmarks/stream.py

bench-strategies:  ## what 200 strategies cost at 5,000 ticks/s, beside a bare VnPy
	@scripts/install test
	@.venv/bin/python benchmarks/strategies_bench.py

torture:  ## hours: 1,000 kills, 1,000 lost connections, 10,000 simulated lives, ten minutes without a database
	@scripts/install test
	@scripts/servers
	@scripts/torture all

lint:  ## ruff, mypy and the import rules only
	@scripts/install test
	@scripts/check lint

add:  ## add a package, as a gateway, without Qt: make add PACKAGE=vnpy_ctp
	@scripts/install add "$(PACKAGE)"

pins:  ## write constraints.txt anew from pyproject.toml; UPGRADE=1 moves all pins to the newest versions
	@scripts/install test
	@.venv/bin/uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
		$(if $(UPGRADE),--upgrade) --extra test pyproject.toml -o constraints.txt

clean:  ## remove the virtual environment and caches; data and configuration stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find services tests strategies -name __pycache__ -type d -prune -exec rm -rf {} +
