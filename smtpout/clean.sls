{#- Undoes what smtpout made. Refuses while mail is in the queue; keeps DKIM keys; both unless the pillar says so. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.firewall.clean
  - smtpout.postfix.clean
  - smtpout.opendkim.clean
  - smtpout.clamav.clean
  - smtpout.saslauthd.clean
  - smtpout.selinux.clean

{%- if settings.valid and settings.clean.remove_packages %}

The mail system's packages are removed:
  smtpout.packages_removed:
    - packages: {{ settings.packages | json }}
    - require:
      - config_set: Postfix has its original configuration again
      - config_set: OpenDKIM has its original configuration again
      - config_set: clamav-milter has its original configuration again
      - config_set: clamd has its original configuration again
      - config_set: freshclam has its original configuration again
      - config_set: saslauthd has its original configuration again
{%- if settings.selinux.active %}
      - selinux_policy: SELinux's policy is as it was before
{%- endif %}
{%- endif %}
