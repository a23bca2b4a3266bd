{#- Undoes all daemons of the site. Mail in the queue stops it before anything is touched. -#}
{%- from "smtpout/map.jinja" import settings with context %}

include:
  - smtpout.valid

{%- if settings.valid %}

No mail is lost with the queue:
  smtpout.queue_empty:
    - delete: {{ settings.clean.delete_queued_mail | json }}
    - require:
      - smtpout: The site's pillar is right
      - smtpout_site: No change of the mail system is half done

The mail system is as it was before smtpout:
  smtpout_site.gone:
    - delete: {{ settings.clean.delete_queued_mail | json }}
    - require:
      - smtpout: No mail is lost with the queue
{%- endif %}
