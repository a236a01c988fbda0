"""The frozen list of commands and options: adding one is a visible decision."""

from pathlib import Path

import pytest
import typer

from vidar.cli import DATA_EXAMPLES, EVAL_EXAMPLES, EXAMPLES, VBENCH_EXAMPLES, app

GOLDEN = Path(__file__).parent.parent / "golden" / "cli.txt"
HEADER = "# Commands and options. Regenerate: python tests/cli/test_golden.py > tests/golden/cli.txt"


def commands():
    """(words, command), groups included."""
    top = typer.main.get_command(app)
    yield (), top
    for name, command in sorted(top.commands.items()):
        yield (name,), command
        yield from below((name,), command)


def below(words, group):
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield (*words, name), command
        yield from below((*words, name), command)


def listing():
    lines = [HEADER]
    for words, command in commands():
        arguments = [f"<{p.name}>" for p in command.params if p.param_type_name == "argument"]
        options = [opt for p in command.params if p.param_type_name == "option" for opt in p.opts + p.secondary_opts]
        lines.append(" ".join(["vidar", *words, *arguments, *options]))
    return "\n".join(lines) + "\n"


def test_list_is_frozen():
    assert listing() == GOLDEN.read_text()


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_help_has_an_example(run, words):
    code, out, err = run(*words, "--help")
    assert code == 0 and not err
    assert "Usage: " in out and f"Example:  vidar {' '.join(words)}".rstrip() in out


def test_every_command_has_an_example_that_names_its_options():
    for command, example in {**EXAMPLES, **DATA_EXAMPLES, **EVAL_EXAMPLES, **VBENCH_EXAMPLES}.items():
        named = [(words, leaf) for words, leaf in commands() if words == tuple(example.split()[1 : 1 + len(words)])]
        _, leaf = max(named, key=lambda item: len(item[0]))
        assert leaf.callback is not None and leaf.callback.__wrapped__ is command
        known = {opt for p in leaf.params for opt in p.opts}
        assert {word for word in example.split() if word.startswith("--")} <= known


if __name__ == "__main__":
    print(listing(), end="")
