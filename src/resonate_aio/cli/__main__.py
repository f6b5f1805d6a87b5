"""`python -m resonate_aio.cli`: the same as the `resonate-aio` command."""

from .main import main

main()
