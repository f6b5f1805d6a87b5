"""The `resonate-aio` command: its groups, and what becomes of errors.

Exit codes: 0 done, 1 refused or failed (one line on stderr), 2 used wrongly.
"""

from __future__ import annotations

import sys

import click

from .. import __version__
from ..errors import ResonateError
from .invoke import invoke
from .output import escaped
from .promises import promises
from .schedules import schedules
from .serving import dev, serve
from .tasks import tasks
from .tree import tree


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Errors are one line on stderr; the exit code is 1 for a refusal, 2 for wrong use.",
)
@click.version_option(__version__, prog_name="resonate-aio")
def cli() -> None:
    """Durable async/await: run a server, and look after what runs on one."""


for command in (serve, dev, invoke, tree, promises, tasks, schedules):
    cli.add_command(command)


def main() -> None:
    """Run the command and exit."""
    try:
        code = cli.main(prog_name="resonate-aio", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (ResonateError, OSError) as error:
        click.echo(f"Error: {escaped(str(error))}", err=True)
        sys.exit(1)
