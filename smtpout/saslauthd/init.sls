{#- saslauthd checks users' passwords in the directory; Postfix asks it over a socket. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages

{%- if settings.valid %}
{%- set saslauthd = settings.saslauthd %}

saslauthd checks passwords in the directory:
  config_set.managed:
    - daemon: saslauthd
    - files:
        - name: {{ saslauthd.configuration }}
          source: salt://smtpout/saslauthd/saslauthd.conf.jinja
          mode: '0600'
          secret: true
          activate: restart
        - name: {{ saslauthd.defaults_file }}
          source: salt://smtpout/saslauthd/defaults.jinja
          activate: restart
        - name: {{ saslauthd.unit_file }}
          source: salt://smtpout/saslauthd/saslauthd.service.jinja
          activate: restart
    - check: saslauthd.check_config
    - check_args: {config: {{ saslauthd.configuration }}, ask_directory: true}
    - service: {{ saslauthd.service }}
    - reload: false
    # Each of its processes reads them once: without a restart some would check with the old authority for ever.
    - watch_files: {{ settings.directory.authorities | json }}
    - probe: saslauthd.ping
    - probe_args: {socket: {{ saslauthd.socket_directory }}/mux}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured
      - smtpout: Salt's Python has what the formula needs
{%- endif %}
