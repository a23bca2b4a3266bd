{#- Asks the directory before any user does: bind, base, filters and attribute. Changes nothing. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages

{%- if settings.valid %}

The directory answers as the pillar says:
  directory.reachable:
    - require:
      - smtpout: Salt's Python has what the formula needs
{%- endif %}
