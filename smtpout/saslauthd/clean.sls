{#- Undoes smtpout.saslauthd, once Postfix no longer asks it. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.postfix.clean

{%- if settings.valid %}
{%- set saslauthd = settings.saslauthd %}

saslauthd has its original configuration again:
  config_set.absent:
    - daemon: saslauthd
    - files: [{{ saslauthd.configuration }}, {{ saslauthd.defaults_file }}, {{ saslauthd.unit_file }}]
    - service: {{ saslauthd.service }}
    - require:
      - config_set: Postfix has its original configuration again
{%- endif %}
