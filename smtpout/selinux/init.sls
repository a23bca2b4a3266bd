{#- SELinux knows the relay's keys, alias map and ports before a daemon needs them. Nothing where it doesn't run. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.clamav
  - smtpout.opendkim
  - smtpout.postfix

{%- if settings.valid and settings.selinux.active %}
{%- set selinux = settings.selinux %}

SELinux knows the relay's files and ports:
  selinux_policy.known:
    - labels: {{ selinux.labels | json }}
    - ports: {{ selinux.ports | json }}
    - booleans: {{ selinux.booleans | json }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured
{%- if settings.clamav.enabled %}
    - require_in:
      - config_set: clamd scans for viruses
{%- endif %}

The relay's files have the labels that their readers need:
  selinux_policy.labelled:
    - paths: {{ selinux.labels.keys() | list | json }}
    - require:
      - selinux_policy: SELinux knows the relay's files and ports
      - postmap: Local aliases are a map that Postfix can read
{%- if settings.opendkim.enabled %}
      - opendkim: Every domain has its signing key
{%- endif %}
    - require_in:
      - config_set: Postfix runs the site's configuration
{%- if settings.opendkim.enabled %}
      - config_set: OpenDKIM signs what the site sends
{%- endif %}
{%- endif %}
