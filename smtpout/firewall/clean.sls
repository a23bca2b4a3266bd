{#- Shuts out again what smtpout.firewall has let in. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone

{%- if settings.valid and settings.firewall.managed %}

The firewall lets in what it did before:
  host_firewall.closed:
    - require:
      - smtpout_site: The mail system is as it was before smtpout
{%- endif %}
