{#- SELinux knows the relay's keys, alias map and ports before a daemon needs them. Nothing where it doesn't run. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.site

{%- if settings.valid and settings.selinux.active %}
{%- set selinux = settings.selinux %}

SELinux knows the relay's files and ports:
  selinux_policy.known:
    - labels: {{ selinux.labels | json }}
    - ports: {{ selinux.ports | json }}
    - booleans: {{ selinux.booleans | json }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured
    - require_in:
      - smtpout_site: The site changes as one

The relay's files have the labels that their readers need:
  selinux_policy.labelled:
    - paths: {{ selinux.labels.keys() | list | json }}
    - require:
      - selinux_policy: SELinux knows the relay's files and ports
{%- if settings.opendkim.enabled %}
      - opendkim: Every domain has its signing key
{%- endif %}
    - require_in:
      - smtpout_site: The site changes as one
{%- endif %}
