"""`python -m esb.cli`."""

from esb.cli import main

main()
