"""Commands within the test's own process."""

from typer.testing import CliRunner

from hicl import commands


def hicl(*words: object) -> str:
    """What a command that ends well says. Its error is raised as it is."""
    result = CliRunner().invoke(commands.app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
