"""What VBench wants: a video NAME-i.mp4 for every prompt, under the exact name that its package looks for.

standard  `{prompt}-{i}.mp4`, i = 0..4, and 0..24 for temporal_flickering, whose static filter then keeps five
long      the same names, five videos of at least 5 s
i2v       the same names, five videos; each prompt has a picture to begin with
custom    own prompts; the names are made safe, and prompts.json tells the package the prompt of each file

The prompts are those of the official file VBench_full_info.json; they are not part of vidar.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from vidar.types import UsageError

Mode = Literal["standard", "custom", "long", "i2v"]
MODES: tuple[Mode, ...] = get_args(Mode)
FLICKERING = "temporal_flickering"
VIDEOS, FILTERED = 5, 25  # per prompt; before the static filter
LONG_SECONDS = 5.0  # from here on VBench-Long applies
LONGEST = 255 - len("-24.mp4") - len(".tmp.4194304")  # bytes of a prompt in a file name, with room for unfinished files
NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')  # of any file system
HASH = 8


@dataclass(frozen=True)
class Wanted:
    """One wanted video. index: its number among those of the prompt; image: of i2v, the picture it begins with."""

    file: str
    prompt: str
    index: int
    dimensions: tuple[str, ...] = ()
    image: str | None = None


@dataclass(frozen=True)
class Prompt:
    """One prompt of an official file, with the dimensions of all its entries."""

    text: str
    dimensions: tuple[str, ...]
    image: str | None = None


def read_info(file: Path) -> list[Prompt]:
    """The prompts of an official file, each once: 944 of the 946 entries of VBench_full_info.json are different.

    Raises UsageError naming the file and the entry if it is of another kind.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: not readable ({error.strerror}); give VBench_full_info.json with --info") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{file}: is no JSON; give VBench_full_info.json with --info") from None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{file}: holds no list of prompts; give VBench_full_info.json with --info")
    found: dict[tuple[str, str | None], list[str]] = {}
    for number, entry in enumerate(cast(list[Any], entries)):
        text, dimensions, image = _fields(entry, f"{file}: entry {number}")
        known = found.setdefault((text, image), [])
        known += [name for name in dimensions if name not in known]
    return [Prompt(text, tuple(dimensions), image) for (text, image), dimensions in found.items()]


def official(
    prompts: Sequence[Prompt], mode: Mode, dimensions: Sequence[str] = (), first: int | None = None
) -> list[Wanted]:
    """The videos of a mode with official prompts, in the order of the file.

    dimensions: only the prompts of these; first: only the first prompts of each dimension. Raises UsageError for an
    unknown dimension, for prompts that cannot name a file, and for i2v without pictures.
    """
    known = {name for prompt in prompts for name in prompt.dimensions}
    if unknown := [name for name in dimensions if name not in known]:
        raise UsageError(f"no prompt is for dimension {unknown[0]!r}; there are {', '.join(sorted(known))}")
    taken: dict[str, int] = {}
    wanted: list[Wanted] = []
    for prompt in prompts:
        asked = [name for name in prompt.dimensions if not dimensions or name in dimensions]
        asked = [name for name in asked if first is None or taken.get(name, 0) < first]
        if not asked:
            continue
        for name in asked:
            taken[name] = taken.get(name, 0) + 1
        _check_name(prompt, mode)
        count = FILTERED if FLICKERING in asked and mode == "standard" else VIDEOS
        wanted += [Wanted(f"{prompt.text}-{i}.mp4", prompt.text, i, tuple(asked), prompt.image) for i in range(count)]
    return wanted


def own(prompts: Sequence[str], count: int) -> list[Wanted]:
    """`count` videos of each own prompt, under names that every file system takes.

    Characters that no file name has, and _, at which VBench-Long cuts names, become blanks. A name that is cut, or that
    another prompt has (upper and lower case are the same), ends with a hash of its prompt.
    Raises UsageError for a prompt that is empty or given twice.
    """
    plain = [" ".join(NOT_IN_NAMES.sub(" ", prompt).replace("_", " ").split()).lstrip(".") for prompt in prompts]
    folded = [name.casefold() for name in plain]
    wanted: list[Wanted] = []
    for number, (prompt, name) in enumerate(zip(prompts, plain)):
        if not prompt.strip() or prompts.index(prompt) != number:
            what = "is given twice" if prompt.strip() else "is empty"
            raise UsageError(f"prompt {number + 1} ({prompt[:40]!r}) {what}; remove it")
        if not name or len(name.encode()) > LONGEST or folded.count(folded[number]) > 1:
            digest = hashlib.sha256(prompt.encode()).hexdigest()[:HASH]
            short = name.encode()[: LONGEST - HASH - 1].decode(errors="ignore").rstrip()
            name = f"{short} {digest}".strip()
        wanted += [Wanted(f"{name}-{i}.mp4", prompt, i) for i in range(count)]
    return wanted


def read_prompts(file: Path) -> list[str]:
    """Own prompts from a text file: one per line, blank lines and lines that begin with // are skipped.

    Raises UsageError if the file cannot be read or has none.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(
            f"{file}: not readable ({error.strerror}); give a text file with one prompt per line"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is no text in UTF-8; save it as UTF-8") from None
    found = [line.strip() for line in lines if line.strip() and not line.strip().startswith("//")]
    if not found:
        raise UsageError(f"{file}: holds no prompts; write one per line")
    return found


def folded(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of names that a file system without upper and lower case takes for one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield other, name


def _fields(entry: Any, where: str) -> tuple[str, list[str], str | None]:
    fields = cast(Mapping[str, Any], entry if isinstance(entry, Mapping) else {})
    text, dimensions, image = fields.get("prompt_en"), fields.get("dimension"), fields.get("image_name")
    names = cast(list[Any], dimensions if isinstance(dimensions, list) else [])
    if not isinstance(text, str) or not text or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where} has no prompt_en and dimension; give VBench_full_info.json with --info")
    if not isinstance(image, str | None) or (image and Path(image).is_absolute()) or ".." in Path(image or "").parts:
        raise UsageError(f"{where}: image_name {image!r} is no name of a picture in a folder")
    return text, [str(name) for name in names], image


def _check_name(prompt: Prompt, mode: Mode) -> None:
    """Raises UsageError if the official package could not find a video of this prompt."""
    text = prompt.text
    shown = f"prompt {text[:60]!r}"
    if "/" in text or "\0" in text:
        raise UsageError(f"{shown}: contains / or a zero byte, so no file can have its name; use --mode custom")
    if len(text.encode()) > LONGEST:
        raise UsageError(f"{shown}: {len(text.encode())} bytes, a file name has room for {LONGEST}; use --mode custom")
    if mode == "long" and "_" in text:
        raise UsageError(f"{shown}: VBench-Long cuts names at _, so it would not find this video; use --mode custom")
    if mode == "i2v" and not prompt.image:
        raise UsageError(f"{shown}: has no image_name; give the info file of VBench-I2V with --info")
