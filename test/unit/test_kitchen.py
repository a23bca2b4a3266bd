"""kitchen.yml says what its readers understand, and what it names is there."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from smtpout_core.site import schema as schema_rules
from support import KITCHEN, PILLARS, PLATFORMS, REPOSITORY, STATES, load

# The options that are read by each plugin in the version of the Gemfile; `name` is kitchen's own.
# kitchen-docker 3.0.0: lib/kitchen/driver/docker.rb, lib/kitchen/docker/
DOCKER = """
    add_host binary build_context build_options build_tempdir cap_add cap_drop cpu detach devices disable_upstart dns
    docker_platform dockerfile env_variables forward gpus hostname http_proxy https_proxy image instance_name
    interactive isolation links memory mount no_proxy platform private_key privileged provision_command public_key
    publish_all remove_images run_command run_options security_opt socket temp_dir tls tls_cacert tls_cert tls_key
    tls_verify tmpfs tty use_cache use_internal_docker_network use_sudo username volume volumes_from
    wait_for_transport working_dir
"""
# kitchen-salt 0.7.2: lib/kitchen/provisioner/salt_solo.rb, lib/kitchen-salt/;
# test-kitchen 3.9.1: lib/kitchen/provisioner/base.rb
SALT_SOLO = """
    bootstrap_url cache_commands chef_bootstrap_url collection_name data_path dependencies dry_run formula gpg_home
    gpg_key grains init_environment install_after_init_environment is_file_root local_salt_root omnibus_cachier
    pillar_env pillars pillars_from_directories pillars_from_files pip_bin pip_editable pip_extra_index_url
    pip_index_url pip_pkg pre_salt_command prepare_salt_environment remote_states require_chef run_salt_call
    salt_apt_repo salt_apt_repo_key salt_bootstrap_options salt_bootstrap_url salt_call_command salt_config
    salt_copy_filter salt_enable_color salt_env salt_file_root salt_force_color salt_install salt_minion_config
    salt_minion_config_dropin_files salt_minion_config_template salt_minion_extra_config salt_minion_id
    salt_pillar_root salt_ppa salt_spm_root salt_state_top salt_version salt_yum_repo salt_yum_repo_key
    salt_yum_repo_latest salt_yum_rpm_key state_collection state_top state_top_from_file vendor_path vendor_repo
    command_prefix downloads ftp_proxy http_proxy https_proxy log_level max_retries retry_on_exit_code root_path sudo
    sudo_command uploads wait_for_retry
"""
# test-kitchen 3.9.1: lib/kitchen/verifier/shell.rb, lib/kitchen/verifier/base.rb
SHELL = """
    command live_stream remote_exec shellout_opts sleep chef_omnibus_root command_prefix ftp_proxy http_proxy
    https_proxy root_path sudo sudo_command
"""
PLUGINS = {"driver": ("docker", DOCKER), "provisioner": ("salt_solo", SALT_SOLO), "verifier": ("shell", SHELL)}


def settings(plugin: str) -> list[dict[str, Any]]:
    """Return a plugin's settings: everybody's, and what single platforms and suites add."""
    parts = [KITCHEN, *KITCHEN["platforms"], *KITCHEN["suites"]]
    return [part[plugin] for part in parts if plugin in part]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_each_option_is_one_that_its_plugin_reads(plugin: str) -> None:
    name, options = PLUGINS[plugin]
    assert KITCHEN[plugin]["name"] == name
    for part in settings(plugin):
        assert set(part) <= {"name", *options.split()}


def test_there_is_nothing_but_what_kitchen_reads() -> None:
    assert set(KITCHEN) == {*PLUGINS, "lifecycle", "platforms", "suites"}
    assert {key for suite in KITCHEN["suites"] for key in suite} == {"name", "provisioner"}
    assert {key for platform in KITCHEN["platforms"] for key in platform} == {"name"}
    # lib/kitchen/lifecycle_hooks.rb: pre_, post_ or finally_ and one of kitchen's actions
    assert set(KITCHEN["lifecycle"]) == {"pre_create", "post_create", "post_destroy"}


def test_each_path_is_there() -> None:
    files = [path for part in settings("provisioner") for path in part.get("pillars_from_files", {}).values()]
    hooks = [hook for phase in KITCHEN["lifecycle"].values() for hook in phase if isinstance(hook, str)]
    command = KITCHEN["verifier"]["command"].split()
    named = [KITCHEN["driver"]["dockerfile"], *files, *(hook.split()[0] for hook in hooks), command[3]]
    assert len(named) == 7
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
    assert [state for state in STATES.split(",") if not (REPOSITORY / state / "init.sls").exists()] == []


def test_each_file_that_an_image_copies_is_there() -> None:
    copied = [
        line.split()[1]
        for dockerfile in (REPOSITORY / "test/kitchen").glob("*.Dockerfile")
        for line in dockerfile.read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ")
    ]
    assert len(copied) == 3
    assert [path for path in copied if not (REPOSITORY / path).exists()] == []


def test_the_formula_knows_each_platform() -> None:
    known = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
    assert set(PLATFORMS) <= set(known)


@pytest.mark.parametrize("suite", PILLARS)
def test_each_suites_pillar_is_right(suite: str) -> None:
    schema = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))
    assert schema_rules.problems(load(suite)["smtpout"], schema, "smtpout") == []
