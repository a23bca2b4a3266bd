{#- Undoes what smtpout made. Refuses while mail is in the queue; keeps DKIM keys; both unless the pillar says so. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone
  - smtpout.firewall.clean
  - smtpout.limits.clean
  - smtpout.opendkim.clean
  - smtpout.selinux.clean

{#- Python stays, and so do its packages: much of a host may need them. #}
{%- if settings.valid and settings.clean.remove_packages %}

The mail system's packages are removed:
  smtpout.packages_removed:
    - packages: {{ settings.packages | reject("in", settings.watch.packages) | list | json }}
    - require:
      - smtpout_site: The mail system is as it was before smtpout
{%- if settings.selinux.active %}
      - selinux_policy: SELinux's policy is as it was before
{%- endif %}
{%- endif %}
