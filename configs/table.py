"""The table of systems: one entry per recipe, as records, as text, and as the generated part of configs/README.md.

`python -m vidar.configs.table` rewrites that part; `vidar systems --markdown` prints it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import Any, Protocol, get_args, get_type_hints, runtime_checkable

from vidar.config import Config
from vidar.configs import figures
from vidar.configs.catalog import Ordered, Recipe, components, find_system, parameters, recipes
from vidar.configs.figures import Results, Role, Training
from vidar.configs.recipe import STATUSES, Status, status_of
from vidar.data.atomic import replacing
from vidar.types import UsageError

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- generated: python -m vidar.configs.table -->", "<!-- end of what is generated -->"
GROUPS = {
    "Worlds": "Video models under the control of actions; they generate frame by frame, in chunks or in planned "
    "segments. Over copy-last: PSNR minus that of repeating the last known frame. Over shuffled actions: PSNR minus "
    "that under the actions of another episode.",
    "Pictures and clips": "Generated scale by scale from a class or a text. By chance: the score of pictures that were "
    "generated for another class or text.",
    "Tokenizers and decoders": "Networks that turn pixels into latents and back.",
    "Readers": "Small networks that read keys, motion, rewards or the end of an episode from frames or latents.",
}
BEGIN_HERE = {  # command -> what it is for
    "vidar play doom": "play the world that ships, in the browser",
    "vidar train tokenizer_own": "your own game, once its recordings are in runs/data/own (README)",
    "vidar train world_own": "the world of that game",
    "vidar train tokenizer_shapes": "a toy world, after `vidar record shapes --episodes 200 --out runs/data/shapes`",
}
SHOWN: dict[str, Role] = {"figure": "main", "against": "baseline"}
HEAD = ("recipe", "parameters", "tiny", "order", "status", *SHOWN, "minutes")
RULE = "|---|---:|---:|---|---|---|---|---:|"
USUAL = ("demo", "small", "tiny")  # presets that are not published sizes
WIDTH = 118  # maximum line length of README.md
INSIDE: dict[str, Any] = {"initial_indent": "    ", "subsequent_indent": "    ", "break_on_hyphens": False}


@runtime_checkable
class InPyramids(Protocol):
    """An objective whose units are the scales of pyramids."""

    pyramids: Sequence[Any]


@dataclass(frozen=True)
class Entry:
    """A recipe in the table; values that are slow to compute are properties."""

    recipe: str
    make: Recipe
    config: Config
    group: str
    status: Status
    results: Results

    @property
    def what(self) -> str:
        """The first line of the recipe's docstring."""
        return (inspect.getdoc(self.make) or "").splitlines()[0]

    @cached_property
    def parameters(self) -> int:
        """Number of weights at the default preset."""
        return sum(parameters(self.config).values())

    @cached_property
    def tiny(self) -> int:
        """Number of weights at `preset="tiny"`."""
        return sum(parameters(self.make(preset="tiny")).values())

    @cached_property
    def networks(self) -> dict[str, int]:
        """Number of weights of the network at each published size, by preset."""
        presets = [name for name in get_args(get_type_hints(self.make)["preset"]) if name not in USUAL]
        counts = {name: parameters(self.make(preset=name)) for name in presets}
        return {name: count["net"] for name, count in counts.items() if "net" in count}

    @cached_property
    def order(self) -> str:
        """The order as `order_in_words` describes it, or "-" without one."""
        system = find_system(self.config)
        return "-" if system is None else order_in_words(system)

    def record(self) -> dict[str, Any]:
        """The entry as plain data; `figure` and `against` are the main result and its baseline as text."""
        names = ("recipe", "group", "what", "parameters", "tiny", "networks", "order", "status")
        figures = {name: self.results.figure(role) for name, role in SHOWN.items()}
        return {
            **{name: getattr(self, name) for name in names},
            **{name: None if figure is None else str(figure) for name, figure in figures.items()},
            **self.results.model_dump(mode="json", exclude_defaults=True, exclude={"recipe"}),
        }


def entries(word: str | None = None, status: Status | None = None) -> list[Entry]:
    """All recipes group by group, or the recipe named `word`, or all with it in name, group, status or description.

    status: only those with it. Raises UsageError if nothing matches.
    """
    found = [entry(name, make) for name, make in recipes().items() if status in (None, status_of(make))]
    found.sort(key=lambda one: list(GROUPS).index(one.group))
    if word is None:
        return found
    told = {one.recipe: " ".join((one.recipe, one.group, one.status, one.what)).lower() for one in found}
    named = [one for one in found if one.recipe == word] or [one for one in found if word.lower() in told[one.recipe]]
    if not named:
        raise UsageError(f"no system has {word!r} in its name, group, status or description; `vidar systems` lists all")
    return named


def entry(name: str, make: Recipe) -> Entry:
    """The table entry of one recipe."""
    config, status = make(), status_of(make)
    assert status is not None
    results = figures.read(name) or Results(recipe=name)
    return Entry(name, make, config, _group(config, find_system(config)), status, results)


def _group(config: Config, system: Ordered | None) -> str:
    worlds, pictures, tokenizers, readers = GROUPS
    if system is not None:
        return pictures if getattr(system, "clips", False) else worlds
    return tokenizers if "tokenizer" in components(config) else readers


def order_in_words(system: Ordered) -> str:
    """The units of an order with their numbers of sites, and the number of sites that each ring buffer keeps."""
    made = system.system()
    order, grid, objective = made.order, made.grid, made.objective
    if isinstance(objective, InPyramids):
        sizes = [sum(t * h * w for t, h, w in pyramid.sizes) for pyramid in objective.pyramids]
        units = f"{order.num_units} units in {len(sizes)} pyramid{'s' * (len(sizes) > 1)}"
    else:
        sizes = [len(grid.sites(unit)) for unit in range(order.num_units or len(made.frames.units(0)))]
        units = f"{'endless' if order.endless else order.num_units} units"
    rings = {name: "all" if r.capacity is None else str(r.capacity) for name, r in order.relations.items()}
    kept = ", ".join(f"{name} {size}" for name, size in rings.items()) if len(rings) > 1 else [*rings.values()][0]
    exact = ", approximate" if order.approximate else ""
    return f"{units} of {' + '.join(map(str, sizes))} sites, ring{'s' * (len(rings) > 1)} {kept}{exact}"


def brief(found: Sequence[Entry], width: int) -> Iterator[str]:
    """Where to begin, and the names of the recipes by group and status."""
    yield "Begin here"
    longest = max(map(len, BEGIN_HERE))
    for command, purpose in BEGIN_HERE.items():
        lead = f"  {command:{longest}}  "
        yield from wrap(purpose, width, initial_indent=lead, subsequent_indent=" " * len(lead))
    for group in GROUPS:
        yield from ["", group]
        for status in STATUSES:
            names = [one.recipe for one in found if (one.group, one.status) == (group, status)]
            yield from _told(status, ", ".join(names), width) if names else ()
    yield ""
    yield from (f"{status}: {told.replace('`', '')}" for status, told in STATUSES.items())
    more = "`vidar systems NAME` shows one of them; a word, --status measured or --all lists them with their figures."
    yield from wrap(more, width)


def listing(found: Sequence[Entry], width: int) -> Iterator[str]:
    """About two lines per recipe: name, parameters, status and main figure, then the description."""
    longest = max(len(one.recipe) for one in found)
    for group in GROUPS:
        members = [one for one in found if one.group == group]
        if members:
            yield from [group, *wrap(GROUPS[group], width)]
        for one in members:
            main = one.results.figure("main")
            yield ""
            head = f"{one.recipe:{longest}}  {short(one.parameters):>7}  {one.status:9}  {main.brief() if main else ''}"
            yield head.rstrip()
            yield from wrap(one.what, width, initial_indent="  ", subsequent_indent="  ")
        yield from [""] * bool(members)
    yield from (f"{status}: {told.replace('`', '')}" for status, told in STATUSES.items())
    yield from wrap("`vidar systems NAME` shows figures, commands and the order; `vidar train NAME` trains.", width)


def details(found: Sequence[Entry], width: int) -> Iterator[str]:
    """All details of each recipe."""
    for number, one in enumerate(found):
        yield from [""] * (number > 0)
        yield f"{one.recipe}: {one.status} ({STATUSES[one.status].replace('`', '')})"
        yield from wrap(one.what, width, initial_indent="  ", subsequent_indent="  ")
        yield from _told("parameters", f"{one.parameters:,}; preset=tiny {one.tiny:,}", width)
        if one.networks:
            yield from _told("networks", sizes_in_words(one.networks), width)
        if one.order != "-":
            yield from _told("order", one.order, width)
        for measurement in one.results.measurements:
            yield from _told("measured", f"{measurement.data}, {measurement.date}", width)
            yield f"{'':14}$ {measurement.command}"
            for figure in measurement.figures:
                yield from _told("", str(figure), width)
            yield from _told("", measurement.note, width) if measurement.note else ()
        if one.results.training:
            yield from _told("trained", training_in_words(one.results.training, ""), width)
        yield f"  train it    vidar train {one.recipe}"


def _told(name: str, text: str, width: int) -> list[str]:
    lead = f"  {name:10}  "
    return wrap(text, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False)


def short(count: int) -> str:
    """A number of weights in at most four digits: 9,480 M, 11.2 M, 62.5 k."""
    size, unit = (count / 1e6, "M") if count >= 1e6 else (count / 1e3, "k")
    return f"{size:,.0f} {unit}" if size >= 100 else f"{size:.1f} {unit}"


def sizes_in_words(networks: dict[str, int]) -> str:
    """The published sizes as `130.7 M (preset=b), 460.4 M (preset=l)`."""
    return ", ".join(f"{count / 1e6:,.1f} M (preset={preset})" for preset, count in networks.items())


def training_in_words(training: Training, quote: str = "`") -> str:
    """How the weights were trained, with the minutes."""
    parts = [f"{training.minutes:g} minutes"]
    parts += [f"{quote}{training.arguments}{quote}"] if training.arguments else []
    parts += [f"{training.steps:,} steps"] if training.steps is not None else []
    return ", ".join([*parts, *([training.note] if training.note else [])])


def markdown() -> str:
    """The generated part of README.md: for each group a table, and below it a list with the details of each recipe."""
    found, lines = entries(), list[str]()
    for group, told in GROUPS.items():
        lines += [f"## {group}", "", *wrap(told, WIDTH, break_on_hyphens=False), ""]
        lines += [f"| {' | '.join(HEAD)} |", RULE]
        members = [one for one in found if one.group == group]
        lines += [f"| {' | '.join(_cells(one))} |" for one in members]
        lines += ["", *(line for one in members for line in _below(one)), ""]
    return "\n".join(lines).rstrip()


def _cells(one: Entry) -> list[str]:
    shown = [figure.cell() if figure else "-" for figure in map(one.results.figure, SHOWN.values())]
    training = one.results.training
    minutes = f"{training.minutes:g}" if training else "-"
    return [one.recipe, f"{one.parameters:,}", f"{one.tiny:,}", one.order, one.status, *shown, minutes]


def _below(one: Entry) -> Iterator[str]:
    yield from _item(f"**{one.recipe}**: {one.what}")
    if one.networks:
        yield from _item(f"network size{'s' * (len(one.networks) > 1)}: {sizes_in_words(one.networks)}", "  ")
    for measurement in one.results.measurements:
        told = "; ".join(map(str, measurement.figures))
        note = f" {measurement.note}" if measurement.note else ""
        yield from _item(f"`{measurement.command}`", "  ")
        yield from wrap(f"({measurement.data}, {measurement.date}): {told}.{note}", WIDTH, **INSIDE)
    if one.results.training:
        yield from _item(f"trained: {training_in_words(one.results.training)}", "  ")


def _item(text: str, indent: str = "") -> list[str]:
    first, others = f"{indent}- ", f"{indent}  "
    return wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,
    )


def readme() -> str:
    """The text of README.md with its generated part rewritten.

    Raises UsageError if the marks around that part are missing.
    """
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{README.name}: the lines {BEGIN} and {END} are missing; put them back around the table")
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    text = readme()
    with replacing(README) as temporary:
        temporary.write_text(text)
