"""Names of episodes: file names of any script, case and length -> distinct keys that every file system keeps apart."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from vidar.types import VidarError

LONGEST = 70  # characters of a name without the number of its piece
HASH = 8  # hexadecimal digits of a hash in a name


def episode_names(stems: Sequence[str], pieces: Sequence[int], taken: Collection[str]) -> list[str]:
    """A name for each recording, made of letters, digits, - and _.

    stems: file names without suffix, all different. pieces: the number of episodes of each. taken: keys of other
    episodes. A stem that is a name already stays as it is. Any other character becomes _; a stem that is cut, has no
    letter or digit left, or gets the name of another one (upper and lower case are the same) gets a hash of the stem
    at its end, so the names do not depend on the order of the files.
    Raises VidarError if that still gives one name twice.
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", stem) for stem in stems]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(plain):
        groups[name.casefold()].append(number)
    used = {key.casefold() for key in taken}
    names = [""] * len(stems)
    hashed: list[int] = []
    for group in groups.values():
        unchanged = [number for number in group if plain[number] == stems[number]]
        first = (unchanged if len(unchanged) == 1 else group if len(group) == 1 else [-1])[0]
        for number in group:
            name = plain[number]
            keys = {key.casefold() for key in piece_names(name, pieces[number])}
            if number == first and len(name) <= LONGEST and re.search(r"[A-Za-z0-9]", name) and not keys & used:
                names[number] = name
                used |= keys
            else:
                hashed.append(number)
    for number in hashed:
        digest = hashlib.sha256(stems[number].encode()).hexdigest()[:HASH]
        names[number] = f"{plain[number][: LONGEST - HASH - 1]}-{digest}"
        keys = {key.casefold() for key in piece_names(names[number], pieces[number])}
        if keys & used:
            raise VidarError(f"{stems[number]}: an episode {names[number]} exists already; rename the file")
        used |= keys
    return names


def piece_names(name: str, pieces: int) -> list[str]:
    """The keys of the episodes of one recording: NAME, or NAME_0000, NAME_0001, ..."""
    return [name] if pieces == 1 else [f"{name}_{number:04d}" for number in range(pieces)]
