"""``python -m seqdiffrec`` is the command line."""

from seqdiffrec.cli import main

main()
