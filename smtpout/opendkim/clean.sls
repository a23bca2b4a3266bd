{#- Deletes the DKIM private keys, where the pillar says so, once nothing signs with them. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.gone

{%- if settings.valid and settings.clean.delete_dkim_private_keys %}

The DKIM private keys are deleted:
  file.absent:
    - names: {{ settings.opendkim.keys | map(attribute='path') | list | json }}
    - require:
      - smtpout_site: The mail system is as it was before smtpout

Nothing is remembered of the DKIM keys:
  opendkim.stages_forgotten:
    - require:
      - file: The DKIM private keys are deleted
{%- endif %}
