"""`python -m netlab` is the `netlab` program."""

from netlab.cli import main

main()
