"""`python -m celery_cascade.cli …`: the command where the console script is not installed."""

from celery_cascade.cli import main

main()
