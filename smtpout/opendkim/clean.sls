{#- Undoes smtpout.opendkim, once Postfix no longer asks it. Private keys stay unless the pillar says otherwise. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.postfix.clean

{%- if settings.valid %}
{%- set opendkim = settings.opendkim %}

OpenDKIM has its original configuration again:
  config_set.absent:
    - daemon: opendkim
    - files: {{ [opendkim.configuration, opendkim.key_table, opendkim.signing_table, opendkim.hosts_file, opendkim.unit_file] | json }}
    - service: {{ opendkim.service }}
    - require:
      - config_set: Postfix has its original configuration again

{%- if settings.clean.delete_dkim_private_keys %}

The DKIM private keys are deleted:
  file.absent:
    - names: {{ opendkim.signing_keys | map(attribute='path') | list | json }}
    - require:
      - config_set: OpenDKIM has its original configuration again
{%- endif %}
{%- endif %}
