{#- Undoes smtpout.postfix. Mail in the queue stops it before anything is touched. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.valid

{%- if settings.valid %}
{%- set postfix = settings.postfix %}

No mail is lost with the queue:
  smtpout.queue_empty:
    - delete: {{ settings.clean.delete_queued_mail | json }}
    - require:
      - smtpout: The site's pillar is right

Postfix has its original configuration again:
  config_set.absent:
    - daemon: postfix
    - files:
        - {{ postfix.directory }}/main.cf
        - {{ postfix.directory }}/master.cf
        - {{ postfix.recipient_map }}
        - {{ postfix.sender_map }}
        - {{ postfix.sender_names }}
        - {{ postfix.directory_map }}
        - {{ postfix.sasl_directory }}/smtpd.conf
        - /etc/systemd/system/{{ postfix.unit }}.service.d/smtpout.conf
    - maps:
{%- for map in postfix.maps.values() %}
        - {name: {{ map.path }}, type: {{ map.type }}}
{%- endfor %}
    - service: {{ postfix.service }}
    - require:
      - smtpout: No mail is lost with the queue

{%- if postfix.self_made_certificate %}

The self-made certificate is gone:
  file.absent:
    - name: {{ postfix.certificate_chain }}
    - require:
      - config_set: Postfix has its original configuration again
{%- endif %}
{%- endif %}
