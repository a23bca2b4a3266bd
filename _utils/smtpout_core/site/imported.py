"""What is made of the pillars of other formulas, while it is made, and in which forms those have their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from smtpout_core.site import schema
from smtpout_core.site.documents import Documents


class Import:
    """What was made so far: the new site, and for each of their keys where it went or why it didn't."""

    def __init__(self, formula: Documents) -> None:
        self.formula = formula
        self.known = known = formula["import.yaml"]
        self.reasons = [(re.compile(reason["path"]), reason["why"]) for reason in known["left"]]
        self.site: dict[str, Any] = {}
        self.carried: dict[str, list[str]] = {}
        self.left: dict[str, str] = {}
        self.same: list[str] = []

    def carry(self, theirs: str, values: Mapping[str, Any]) -> None:
        """Put values at paths of ours; they stay, or are taken back, together."""
        for ours, value in values.items():
            place = self.site
            *above, last = _keys(ours)
            for key in above:
                place = place.setdefault(key, {})
            place[last] = value
        self.carried.setdefault(theirs, []).extend(values)

    def add(self, theirs: str, ours: str, values: Iterable[str]) -> None:
        """Put values behind those that a list of ours has."""
        known = self._at(ours) if any(ours in places for places in self.carried.values()) else []
        self.carry(theirs, {ours: list(dict.fromkeys([*known, *values]))})

    def leave(self, theirs: str, why: str) -> None:
        """Say why a key of theirs isn't carried."""
        self.left[theirs] = why

    def has_no_place(self, theirs: str) -> bool:
        """Leave a key for which there is a reason."""
        why = next((why for path, why in self.reasons if path.fullmatch(theirs)), None)
        if why:
            self.leave(theirs, why)
        return why is not None

    def leave_rest(self, path: str, given: Mapping[str, Any], looked_at: Iterable[str]) -> None:
        """Leave what is neither looked at nor known, so that no key is lost in silence."""
        for key in sorted(given.keys() - set(looked_at)):
            if not self.has_no_place(f"{path}:{key}"):
                self.leave(f"{path}:{key}", "is no key of that formula")

    def take_back(self, problem: dict[str, str | None]) -> bool:
        """Take back what a problem is about; False where it is about nothing that was carried."""
        path = str(problem["path"]).removeprefix("smtpout:")
        for theirs, ours in self.carried.items():
            for place in ours:
                if path == place or path.startswith(f"{place}:") or place.startswith(f"{path}:"):
                    value, index = self._at(place), path.removeprefix(place).strip(":")
                    sentence = schema.sentences([problem])[0]
                    if isinstance(value, list) and index.isdigit() and len(value) > 1:
                        del value[int(index)]
                        self.leave(f"{theirs}, {problem['value']}", sentence)
                        return True
                    for each in ours:
                        self._remove(_keys(each), self.site)
                    gone = set(ours)
                    for other in [each for each, places in self.carried.items() if gone & {*places}]:
                        self.leave(other, sentence)
                        del self.carried[other]
                    return True
        return False

    def _at(self, ours: str) -> Any:
        value: Any = self.site
        for key in _keys(ours):
            value = value[key]
        return value

    def _remove(self, keys: list[str], place: dict[str, Any]) -> None:
        if len(keys) > 1 and keys[0] in place:
            self._remove(keys[1:], place[keys[0]])
        if len(keys) == 1 or not place.get(keys[0], True):
            place.pop(keys[0], None)


def text(value: Any) -> str:
    """Return a value on one line: lists and folded lines are what their templates break into several."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(item).rstrip(",") for item in value)
    return " ".join(str(value).split())


def words(value: Any) -> list[str]:
    """Return what blanks and commas part."""
    return [word for word in re.split(r"[\s,]+", text(value)) if word]


def entries(data: Any) -> dict[str, str]:
    """Return a table's entries: theirs are a mapping, or a list of mappings where the order counts."""
    pairs = data.items() if isinstance(data, Mapping) else (pair for item in data for pair in item.items())
    return {str(key): text(value) for key, value in pairs}


def _keys(ours: str) -> list[str]:
    """Return the keys of a path; below postfix:master a service is one, 127.0.0.1:25/inet, colon and all."""
    return ours.split(":", 2 if ours.startswith("postfix:") else -1)
