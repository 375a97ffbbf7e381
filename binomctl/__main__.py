"""`python -m binomctl`."""

from binomctl.cli import main

main()
