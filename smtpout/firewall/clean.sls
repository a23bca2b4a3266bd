{#- Shuts out again what smtpout.firewall has let in. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.postfix.clean

{%- if settings.valid and settings.firewall.managed %}

The firewall lets in what it did before:
  host_firewall.closed:
    - require:
      - config_set: Postfix has its original configuration again
{%- endif %}
