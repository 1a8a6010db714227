# The commands of this checkout. Each works as root and as an ordinary user.

PREFIX ?= /usr/local
# What pytest runs, and how: make test TESTS=tests/unit/proxy PYTEST_FLAGS=-x
TESTS ?= tests
# A file's tests, and so its lab, are one worker's, in their order.
PYTEST_FLAGS ?= -n auto --dist loadfile

BIN := .venv/bin

# Debian leaves these out of an ordinary user's PATH, and nft lives there.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.PHONY: help setup ready demo test lint format bench install lock clean

help:
	@echo 'make setup    system packages (asks for sudo only if one is missing), .venv, byte code'
	@echo 'make demo     setup, then every scenario'
	@echo 'make test     setup, then the whole test suite'
	@echo 'make lint     setup, then the style and type checkers'
	@echo 'make format   setup, then fix the style'
	@echo 'make bench    setup, then the measurements of docs/benchmarks.md'
	@echo 'make install  put netlab on the PATH: a link in $(PREFIX)/bin (PREFIX=...)'
	@echo 'make lock     update setup/requirements.txt from pyproject.toml'
	@echo 'make clean    remove what the above made here'

setup:
	@setup/setup next

# What the others begin with.
ready:
	@setup/setup

demo: ready
	$(BIN)/netlab scenario run all

test: ready
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(TESTS)

lint: ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: ready
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: ready
	@for each in benchmarks/[a-z]*.py; do $(BIN)/python $$each || exit; done

# Not after setup: `sudo make install` would leave files of root's in an ordinary user's checkout.
install:
	@test -x $(BIN)/netlab || { echo 'install: there is no $(BIN)/netlab yet: run make setup first' >&2; exit 1; }
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	ln -sfn "$(CURDIR)/$(BIN)/netlab" "$(DESTDIR)$(PREFIX)/bin/netlab"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo 'install: $(PREFIX)/bin is not on your PATH yet: add it there' ;; esac

lock:
	@setup/lock

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
