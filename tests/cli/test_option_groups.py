"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from volseg.cli.option_groups import given, options_under

ends = options_under("Ends")


def size(
    width: Annotated[int, typer.Option(help="Of the box.")] = 2,
    height: Annotated[int, typer.Option("--tall", help="Of the box.")] = 3,
) -> tuple[int, int]:
    return width, height


@pytest.fixture
def app():
    app = typer.Typer()

    @app.command()
    @given(box=size)
    def command(
        name: str, box: tuple[int, int], loud: Annotated[bool, typer.Option("--loud")] = False
    ) -> None:
        """Describe a box."""
        typer.echo(f"{name} {box} {loud}")

    return app


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a"], "a (2, 3) False\n"),
        (["a", "--width", "7", "--loud"], "a (7, 3) True\n"),
        (["--tall", "1", "b"], "b (2, 1) False\n"),
    ],
)
def test_options_of_a_group_become_one_value(app, words, expected):
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.output) == (0, expected)


def test_help_shows_them_and_the_command_s_own_words(app):
    text = CliRunner().invoke(app, ["--help"]).output
    for words in ("Describe a box.", "--width", "--tall", "Of the box.", "[default: 3]", "--loud"):
        assert words in text
    assert "--box" not in text


def test_options_under_a_heading_are_shown_together():
    app = typer.Typer()

    @app.command()
    def command(
        first: Annotated[int, ends(help="One end.")] = 1,
        last: Annotated[int, ends("--last", help="The other.")] = 2,
    ) -> None:
        """Do nothing."""

    text = CliRunner().invoke(app, ["--help"]).output
    assert text.index("Ends") < text.index("--first") < text.index("--last")


def test_reading_options_of_channels_are_by_name():
    from volseg.cli.reading_options import reading

    assert reading()["suv"] is False
    assert reading(suv=True)["suv"] is True
    found = reading(suv_channels=["pet"], series="ct=1.2.3, pet=1.2.4")
    assert (found["suv"], found["series"]) == ({"pet": True}, {"ct": "1.2.3", "pet": "1.2.4"})
    assert reading(series="1.2.3")["series"] == "1.2.3"
