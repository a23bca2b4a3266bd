"""What a rule finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Found = Iterator[tuple[str, Any, str]]
"""Below smtpout: the path, the value (None: nothing to show), what is wrong with it and what would be right."""

Site = dict[str, Any]
"""What stands below ``smtpout`` in the pillar, over the schema's defaults."""

Rule = tuple[Callable[[Site, dict[str, Any]], Found], tuple[str, ...]]
"""What looks at a site and at what is known of its platform, and the keys below smtpout that it reads."""

MASKED = "(secret)"
"""Stands for a value that must not be shown."""
