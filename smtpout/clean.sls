{#- Undoes what smtpout made. Refuses while mail is in the queue; keeps DKIM keys; both unless the pillar says so. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone
  - smtpout.firewall.clean
  - smtpout.opendkim.clean
  - smtpout.selinux.clean

{%- if settings.valid and settings.clean.remove_packages %}

The mail system's packages are removed:
  smtpout.packages_removed:
    - packages: {{ settings.packages | json }}
    - require:
      - smtpout_site: The mail system is as it was before smtpout
{%- if settings.selinux.active %}
      - selinux_policy: SELinux's policy is as it was before
{%- endif %}
{%- endif %}
