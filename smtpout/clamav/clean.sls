{#- Undoes smtpout.clamav, once Postfix no longer asks it. Signatures stay: they belong to the package. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.postfix.clean

{%- if settings.valid %}
{%- set clamd, milter, freshclam = settings.clamav.clamd, settings.clamav.milter, settings.clamav.freshclam %}

clamav-milter has its original configuration again:
  config_set.absent:
    - daemon: clamav-milter
    - files: [{{ milter.configuration }}, {{ milter.unit_file }}]
    - service: {{ milter.service }}
    - require:
      - config_set: Postfix has its original configuration again

clamd has its original configuration again:
  config_set.absent:
    - daemon: clamd
    - files:
        - {{ clamd.configuration }}
        - /etc/systemd/system/{{ clamd.service }}.service.d/smtpout.conf
{%- if clamd.socket_unit is defined %}
        - /etc/systemd/system/{{ clamd.socket_unit }}.d/smtpout.conf
{%- endif %}
    - service: {{ clamd.units | json }}
    - require:
      - config_set: clamav-milter has its original configuration again

freshclam no longer runs:
  config_set.absent:
    - daemon: freshclam-service
    - files: []
    - service: {{ freshclam.service }}
    - require:
      - config_set: Postfix has its original configuration again

freshclam has its original configuration again:
  config_set.absent:
    - daemon: freshclam
    - files: [{{ freshclam.configuration }}]
    - require:
      - config_set: freshclam no longer runs
{%- endif %}
