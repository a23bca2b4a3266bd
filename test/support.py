"""What several suites share: where things are, the pillars of the suites, a masterless minion's options."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import salt._logging
import salt.config
import yaml

# Salt keeps its first log records for a console that no test opens, and would print them all at the end.
salt._logging.shutdown_temp_handler()

REPOSITORY = Path(__file__).resolve().parents[1]

# What is tested, kitchen.yml says, and nothing else does.
KITCHEN = yaml.safe_load((REPOSITORY / "kitchen.yml").read_text(encoding="utf-8"))
PLATFORMS = [platform["name"] for platform in KITCHEN["platforms"]]
STATES = ",".join(KITCHEN["provisioner"]["state_top"]["base"]["*"])
VERIFIER = KITCHEN["verifier"]["command"]
# A pillar a suite.
PILLARS = {
    suite["name"]: REPOSITORY / suite["provisioner"]["pillars_from_files"]["site.sls"] for suite in KITCHEN["suites"]
}


def load(suite: str) -> dict[str, Any]:
    """Return a suite's pillar."""
    return yaml.safe_load(PILLARS[suite].read_text(encoding="utf-8"))


def minion_opts(root: Path, **changes: Any) -> dict[str, Any]:
    """Return the options of a masterless minion that lives below ``root`` and serves this repository."""
    opts = copy.deepcopy(dict(salt.config.DEFAULT_MINION_OPTS))
    opts.update(
        id="unit",
        root_dir=str(root),
        cachedir=str(root / "cache"),
        extension_modules=str(root / "extmods"),
        conf_file=str(root / "minion"),
        file_client="local",
        local=True,
        file_roots={"base": [str(REPOSITORY)]},
        pillar_roots={"base": []},
        module_dirs=[str(REPOSITORY)],
        grains={},
        pillar={},
        test=False,
        smtpout_state_dir=str(root / "state"),
    )
    opts.update(changes)
    return opts
