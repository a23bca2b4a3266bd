{#- The host's firewall, where one is active, lets in what Postfix serves. None is switched on. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.site

{%- if settings.valid and settings.firewall.managed %}

The firewall lets the relay's clients in:
  smtpout_site.runs:
    - daemon: firewall
    - require:
      - smtpout_site: The site changes as one
{%- endif %}
