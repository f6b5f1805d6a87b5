"""`python -m resonate_aio`: the same as the `resonate-aio` command."""

from .cli.main import main

if __name__ == "__main__":  # tools that look at every module of a package import this one
    main()
