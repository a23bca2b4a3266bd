{#- The virus scanner: freshclam brings signatures, clamd scans, clamav-milter stands between Postfix and clamd. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages

{%- if settings.valid and settings.clamav.enabled %}
{%- set clamd, milter, freshclam = settings.clamav.clamd, settings.clamav.milter, settings.clamav.freshclam %}

freshclam knows where signatures come from:
  config_set.managed:
    - daemon: freshclam
    - files:
        - name: {{ freshclam.configuration }}
          source: salt://smtpout/clamav/freshclam.conf.jinja
          mode: '0600'
          user: {{ freshclam.user }}
          secret: true
{%- if freshclam.defaults_file is defined %}
        - name: {{ freshclam.defaults_file }}
          source: salt://smtpout/clamav/freshclam.defaults.jinja
{%- endif %}
    - check: clamav.check_config
    - check_args: {program: freshclam}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured

ClamAV has virus signatures:
  clamav.signatures_present:
    - directory: {{ settings.clamav.database_directory }}
    - config: {{ freshclam.configuration }}
    - require:
      - config_set: freshclam knows where signatures come from

freshclam keeps the signatures current:
  config_set.managed:
    - daemon: freshclam-service
    - follows: [freshclam]
    - service: {{ freshclam.service }}
    - reload: false
    - require:
      - clamav: ClamAV has virus signatures

clamd scans for viruses:
  config_set.managed:
    - daemon: clamd
    - files:
        - name: {{ clamd.configuration }}
          source: salt://smtpout/clamav/clamd.conf.jinja
          activate: restart
        - name: /etc/systemd/system/{{ clamd.service }}.service.d/smtpout.conf
          source: salt://smtpout/clamav/clamav-daemon.service.jinja
          activate: restart
{%- if clamd.socket_unit is defined %}
        - name: /etc/systemd/system/{{ clamd.socket_unit }}.d/smtpout.conf
          source: salt://smtpout/clamav/clamav-daemon.socket.jinja
          activate: restart
{%- endif %}
    - check: clamav.check_config
    - check_args: {program: clamd}
    - service: {{ clamd.units | json }}
    - reload: false
    - probe: clamav.ping
    - probe_args: {socket: 'unix:{{ clamd.socket }}'}
    - probe_timeout: 300
    - require:
      - clamav: ClamAV has virus signatures

clamav-milter hands mail to clamd:
  config_set.managed:
    - daemon: clamav-milter
    - files:
        - name: {{ milter.configuration }}
          source: salt://smtpout/clamav/clamav-milter.conf.jinja
          activate: restart
        - name: {{ milter.unit_file }}
          source: salt://smtpout/clamav/clamav-milter.service.jinja
          activate: restart
    - check: clamav.check_config
    - check_args: {program: clamav-milter}
    - service: {{ milter.service }}
    - reload: false
    - follows: [clamd]
    - probe: milter.probe
    - probe_args: {socket: '{{ settings.clamav.socket }}'}
    - require:
      - config_set: clamd scans for viruses
{%- endif %}
