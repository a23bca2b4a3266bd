{#- Postfix: takes mail from users and the site's servers, routes it. It comes last, when what it refers to answers. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.packages
  - smtpout.saslauthd
  - smtpout.clamav
  - smtpout.opendkim

{%- if settings.valid %}
{%- set postfix = settings.postfix %}

No other mail server stands in the way:
  smtpout.packages_removed:
    - packages: {{ postfix.conflicting | json }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured

Postfix may use the sockets of saslauthd and the milters:
  smtpout.user_in_groups:
    - user: {{ postfix.user }}
    - groups: {{ postfix.groups | json }}
    - require:
      - smtpout: The mail system's packages are installed and held back until configured

{%- if postfix.self_made_certificate %}

Postfix has a certificate:
  certificate.self_signed_present:
    - path: {{ postfix.certificate_chain }}
    - common_name: {{ settings.hostname }}
    - require_in:
      - config_set: Postfix runs the site's configuration
{%- endif %}

Local aliases are a map that Postfix can read:
  postmap.built:
    - name: {{ postfix.aliases }}
    - type: {{ postfix.map_type }}
    - program: postalias
    - require:
      - smtpout: The mail system's packages are installed and held back until configured

Postfix runs the site's configuration:
  config_set.managed:
    - daemon: postfix
    - files:
        - name: {{ postfix.directory }}/main.cf
          source: salt://smtpout/postfix/main.cf.jinja
        - name: {{ postfix.directory }}/master.cf
          source: salt://smtpout/postfix/master.cf.jinja
        - name: {{ postfix.recipient_map }}
          source: salt://smtpout/postfix/ldap.cf.jinja
          context: {purpose: which recipients of the site exist, query: recipient_filter, result: result_attribute}
          mode: '0640'
          group: {{ postfix.user }}
          secret: true
{%- if settings.directory.senders == "own" %}
        - name: {{ postfix.sender_map }}
          source: salt://smtpout/postfix/ldap.cf.jinja
          context: {purpose: who may send with an address, query: owner_filter, result: login_attribute}
          mode: '0640'
          group: {{ postfix.user }}
          secret: true
        - name: {{ postfix.sender_names }}
          source: salt://smtpout/postfix/senders.regexp.jinja
{%- endif %}
{%- if settings.authentication.submission %}
        - name: {{ postfix.directory_map }}
          source: salt://smtpout/postfix/directory.cf.jinja
          mode: '0640'
          group: {{ postfix.user }}
          secret: true
{%- endif %}
        - name: {{ postfix.sasl_directory }}/smtpd.conf
          source: salt://smtpout/postfix/smtpd.conf.jinja
        - name: /etc/systemd/system/{{ postfix.unit }}.service.d/smtpout.conf
          source: salt://smtpout/postfix/postfix.service.jinja
          activate: restart
    - maps:
{%- for name, map in postfix.maps.items() %}
        - name: {{ map.path }}
          type: {{ map.type }}
          entries: {{ ("postfix:maps:" ~ name ~ ":entries") | json }}
          secret: {{ map.secret | json }}
{%- endfor %}
    - check: postfix_config.check
    - check_args:
        directory: {{ postfix.directory }}
        unit: {{ postfix.unit }}
        made_before: {{ [postfix.aliases] + ([postfix.certificate_chain] if postfix.self_made_certificate else []) }}
    - service: {{ postfix.service }}
    - unit: {{ postfix.unit }}
    - restart_on: {groups: {{ postfix.groups | json }}}
    - watch_files: {{ postfix.read_files | json }}
    - probe: postfix_config.probe
    - require:
      - smtpout: Postfix may use the sockets of saslauthd and the milters
      - postmap: Local aliases are a map that Postfix can read
      - smtpout: No other mail server stands in the way
      - config_set: saslauthd checks passwords in the directory
{%- if settings.clamav.enabled %}
      - config_set: clamav-milter hands mail to clamd
{%- endif %}
{%- if settings.opendkim.enabled %}
      - config_set: OpenDKIM signs what the site sends
{%- endif %}
{%- endif %}
