{#- The signer: a key a domain, and the tables that say which key signs what. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages

{%- if settings.valid and settings.opendkim.enabled %}
{%- set opendkim = settings.opendkim %}

Every domain has its signing key:
  opendkim.keys_present:
    - bits: {{ opendkim.bits }}
    - user: {{ opendkim.user }}
    - group: {{ opendkim.group }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured

OpenDKIM signs what the site sends:
  config_set.managed:
    - daemon: opendkim
    - files:
        - name: {{ opendkim.configuration }}
          source: salt://smtpout/opendkim/opendkim.conf.jinja
        - name: {{ opendkim.key_table }}
          source: salt://smtpout/opendkim/KeyTable.jinja
        - name: {{ opendkim.signing_table }}
          source: salt://smtpout/opendkim/SigningTable.jinja
        - name: {{ opendkim.hosts_file }}
          source: salt://smtpout/opendkim/TrustedHosts.jinja
        - name: {{ opendkim.unit_file }}
          source: salt://smtpout/opendkim/opendkim.service.jinja
    - check: opendkim_config.check
    - check_args:
        config: {{ opendkim.configuration }}
        made_before: {{ opendkim.signing_keys | map(attribute='path') | list | json }}
    - service: {{ opendkim.service }}
    - restart_on: {{ {"socket": opendkim.socket, "options": opendkim.options} | json }}   # a stop takes 5 s
    - watch_files: {{ opendkim.signing_keys | map(attribute='path') | list | json }}
    - probe: milter.probe
    - probe_args: {socket: '{{ opendkim.socket }}'}
    - require:
      - opendkim: Every domain has its signing key
{%- endif %}
