"""The promises of a site, derived from its settings: a new one is an entry of :func:`everything`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from smtpout_core.daemons.postfix.smtp import OUTSIDE
from smtpout_core.directory.people import Person
from smtpout_core.promises.posed import HERE, NOBODY, Posed, sample
from smtpout_core.promises.promise import SENDMAIL, SERVERS, Content, End, Promise, Question
from smtpout_core.site.addresses import HAVE_TO_BE
from smtpout_core.site.rules.promises import not_promised


def promised(
    settings: dict[str, Any],
    people: Sequence[Person],
    versions: Collection[int] = (4, 6),
    by_command: Sequence[str] = (),
) -> list[Promise]:
    """Return what a site keeps its word on, but for what its own keys say otherwise.

    :param settings: the site's.
    :param people: users that the directory has; without any, what is about users can't be asked.
    :param versions: of IP, that Postfix speaks.
    :param by_command: logins that are blocked besides the pillar's.
    """
    taken_back = not_promised(settings)
    return [each for each in everything(settings, people, versions, by_command) if each.name not in taken_back]


def everything(
    settings: dict[str, Any],
    people: Sequence[Person] = (),
    versions: Collection[int] = (4, 6),
    by_command: Sequence[str] = (),
) -> list[Promise]:
    """Return what a site could promise, whatever it takes back; as of :func:`promised`."""
    site = Posed(settings, people, versions, by_command)
    return [
        Promise(
            "strangers_reach_users",
            "Anybody's mail to the site's users is taken",
            [
                *(Question(client, SERVERS, "", known) for client in site.strangers for _, known in site.one_of_each),
                *site.led_elsewhere(),
            ],
            site.without_users,
            ("directory:recipients", "administrators", "aliases", "postfix:main"),
            r"smtpd_\w+_restrictions|relay_\w+|transport_maps|\w*alias\w*|virtual_\w+",
        ),
        Promise(
            "strangers_reach_the_postmaster",
            "Anybody reaches the postmaster of the relay and of each domain (RFC 5321, 4.5.1)",
            [
                *(Question(client, SERVERS, "", "postmaster", content=Content.PLAIN) for client in site.strangers),
                *(
                    Question(client, SERVERS, "", f"{name}@{domain}")
                    for client in site.strangers
                    for domain in site.many_domains
                    for name in HAVE_TO_BE
                ),
            ],
            keys=("administrators", "postfix:main"),
            parameters=r"smtpd_\w+_restrictions|local_\w+|my(destination|origin)|(virtual_)?alias_maps",
        ),
        Promise(
            "strangers_do_not_relay",
            "Nobody from outside sends through the relay to outside",
            [
                Question(client, door, sender, OUTSIDE, End.REFUSED)
                for client in site.strangers
                for door in site.open_doors
                for sender in ("", OUTSIDE, site.postmaster)
            ],
            keys=("networks", "postfix:main", "postfix:master"),
            parameters=r"mynetworks\w*|smtpd_(relay|recipient|client|sender)_restrictions|relay_domains|permit_\w+",
        ),
        Promise(
            "strangers_do_not_send_as_the_site",
            "Nobody from outside writes with an address of the site without a login",
            [
                Question(client, SERVERS, f"president@{domain}", user.addresses[0], End.REFUSED_FOR_GOOD)
                for client in site.strangers
                for domain in site.many_domains
                for user in site.some(1)
            ],
            site.without_users,
            ("domains", "postfix:main"),
            r"smtpd_\w+_restrictions|mynetworks\w*",
        ),
        Promise(
            "unknown_recipients_are_refused",
            "Mail to an address of the site that nobody has is refused at once",
            [
                Question(client, SERVERS, "", f"{NOBODY}@{domain}", End.REFUSED_FOR_GOOD)
                for client in site.strangers
                for domain in site.many_domains
            ],
            keys=("directory:recipients", "postfix:main"),
            parameters=r"smtpd_\w+_restrictions|(relay|local)_recipient_maps|relay_domains|virtual_\w+|\w*_code",
        ),
        Promise(
            "servers_send",
            "The site's servers send to outside and to its users",
            [
                *(
                    Question(client, SERVERS, site.postmaster, recipient)
                    for client in site.servers
                    for recipient in site.anywhere
                ),
                *site.of_each_domain(site.servers[:1]),
            ],
            "" if site.servers else "the site has no networks",
            ("networks", "postfix:main"),
            r"mynetworks\w*|smtpd_\w+_restrictions|relay\w*",
        ),
        *(
            [
                Promise(
                    "blocked_are_refused",
                    "Nothing is taken of whom the site blocks, but for mail to a postmaster",
                    list(site.refused()),
                    keys=("blocked", "postfix:main", "postfix:master"),
                    parameters=r"smtpd_\w+_restrictions|smtpd_restriction_classes|blocked_\w+|\w*_code",
                )
            ]
            if site.blocked
            else []
        ),
        *(
            [
                Promise(
                    "clients_send_as_they_may",
                    "Clients send with the addresses that they may, to where they may, and no others",
                    list(site.of_clients()),
                    site.without_users,
                    ("clients", "postfix:main", "postfix:master"),
                    r"mynetworks\w*|smtpd_\w+_restrictions|smtpd_restriction_classes|smtpd_tls_\w+|\w*_code",
                )
            ]
            if settings["clients"]
            else []
        ),
        Promise(
            "programs_send",
            "Programs on the relay send, over loopback and by sendmail(1)",
            [
                *site.of_each_domain(site.here),
                Question(HERE[0], SENDMAIL, site.postmaster, OUTSIDE, content=Content.PLAIN),
            ],
            keys=("postfix:main", "postfix:master"),
            parameters=r"mynetworks\w*|smtpd_\w+_restrictions|authorized_submit_users|non_smtpd_milters",
        ),
        Promise(
            "users_send",
            "Users who have logged in send with their own addresses",
            [
                *(
                    Question(client, door, user.addresses[0], recipient, login=user.login)
                    for client in site.strangers
                    for door in site.login_doors
                    for user in site.some(2)
                    for recipient in (OUTSIDE, user.addresses[0])
                ),
                *(
                    Question(client, door, address, OUTSIDE, login=login)
                    for client in site.strangers[:1]
                    for door in site.login_doors
                    for login, address in site.one_of_each
                ),
                *(
                    Question(client, door, user.addresses[0], OUTSIDE, login=login)
                    for client in site.strangers[:1]
                    for door in site.login_doors[:1]
                    for user in site.some(2)
                    for login in user.logins[1:]
                ),
                *(
                    Question(client, door, address, OUTSIDE, login=logins[0])
                    for client in site.strangers[:1]
                    for door in site.login_doors[:1]
                    for address, logins in sample(list(site.shared.items()))
                ),
            ],
            site.without_users,
            ("directory:login", "directory:login_attribute", "directory:senders", "postfix:main", "postfix:master"),
            r"smtpd_\w+_restrictions|smtpd_sender_login_maps|smtpd_sasl_\w+|smtpd_tls_\w+",
        ),
        Promise(
            "users_log_in",
            "Users log in, by the whole chain up to the directory",
            [
                Question(client, door, "", "", content=Content.LOGIN, login=site.verifier)
                for client in site.strangers[:1]
                for door in site.login_doors
                if site.verifier
            ],
            "" if site.verifier else "smtpout:verify has no user",
            ("directory:login", "saslauthd:options", "verify", "postfix:main"),
            r"smtpd_sasl_\w+|cyrus_sasl_\w+|smtpd_tls_\w+|smtpd_discard_ehlo_\w+",
        ),
        Promise(
            "passwords_are_encrypted",
            "No password is asked for without TLS",
            [
                Question(client, door, "", "", End.REFUSED, Content.CLEAR_LOGIN)
                for client in site.strangers[:1]
                for door in site.open_doors
                if door not in site.encrypted_doors
            ],
            keys=("authentication:clear_text_on_25", "postfix:main", "postfix:master"),
            parameters=r"smtpd_tls_\w+|smtpd_sasl_\w+|smtpd_use_tls|smtpd_enforce_tls",
        ),
        Promise(
            "only_users_submit",
            "Where users send, on 587 and 465, nobody else does",
            [
                Question(client, door, OUTSIDE, recipient, End.REFUSED)
                for client in (*site.strangers, *site.servers[:1])
                for door in site.users_doors
                for recipient in site.anywhere
            ],
            keys=("postfix:master", "postfix:main"),
            parameters=r"smtpd_\w+_restrictions|mynetworks\w*",
        ),
        Promise(
            "users_send_as_themselves",
            "No user sends with an address that isn't theirs",
            [
                Question(client, door, other, OUTSIDE, End.REFUSED_FOR_GOOD, login=user.login)
                for client in site.strangers[:1]
                for door in site.login_doors
                for user, other in site.others_addresses()
            ]
            + [
                Question(client, door, address, OUTSIDE, End.REFUSED_FOR_GOOD, login=NOBODY)
                for client in site.strangers[:1]
                for door in site.login_doors
                for address in sample(list(site.shared))
            ],
            site.without_others,
            ("directory:senders", "directory:delegates", "shared_addresses", "postfix:main", "postfix:master"),
            r"smtpd_sender_\w+|smtpd_(client|helo|recipient|relay)_restrictions",
        ),
        *(
            [
                Promise(
                    "logins_are_limited",
                    "A login that has sent as much as it may is put off",
                    [
                        Question(client, door, user.addresses[0], OUTSIDE, End.PUT_OFF, Content.PLAIN, user.login)
                        for client in site.spent
                        for door in site.login_doors
                        for user in site.some(1)
                    ],
                    site.without_users,
                    ("limits", "postfix:main", "postfix:master"),
                    r"smtpd_(data_restrictions|restriction_classes|policy_\w+)|logins_limited",
                )
            ]
            if settings["limits"]["of_logins"]
            else []
        ),
        *(
            [
                Promise(
                    "clients_are_limited",
                    "A client that has sent as much as it may is put off",
                    list(site.limited_clients()),
                    site.without_users,
                    ("clients", "postfix:main", "postfix:master"),
                    r"smtpd_(data_restrictions|restriction_classes|policy_\w+)|clients_limited",
                )
            ]
            if settings["limits"]["of_clients"]
            else []
        ),
        Promise(
            "authors_are_users",
            "Users write with one From:, and with their own where the site wants that",
            list(site.authors()),
            site.without_users,
            ("directory:senders", "directory:any_author", "opendkim:options", "postfix:main", "postfix:master"),
            r"\w*header_checks|cleanup_service_name|receive_override_options|smtpd_milters|milter_\w+",
        ),
        Promise(
            "viruses_are_stopped",
            "No virus passes the relay, whoever sends it",
            list(site.viruses()),
            keys=("clamav:enabled", "clamav:clamd", "clamav:milter", "postfix:main", "postfix:master"),
            parameters=r"(non_)?smtpd_milters|milter_\w+|content_filter|receive_override_options|header_checks",
        ),
        Promise(
            "users_stay_private",
            "What leaves of users' mail doesn't say where they wrote from and what their account is called",
            list(site.private()),
            "" if site.hides_nothing else site.without_users,
            ("privacy", "postfix:main", "postfix:master"),
            r"\w*header_checks|smtpd_sasl_authenticated_header|cleanup_service_name|receive_override_options",
        ),
        Promise(
            "mail_is_signed",
            "What leaves with an address of the site is signed by its domain's key",
            list(site.signed()),
            keys=("opendkim", "signed_domains", "networks", "postfix:main", "postfix:master"),
            parameters=r"(non_)?smtpd_milters|milter_\w+|\w*_checks|\w*canonical\w*|masquerade_\w+|smtp_\w+",
        ),
        Promise(
            "strangers_are_not_signed",
            "What comes from outside gets no signature of the site",
            [
                Question(
                    client, SERVERS, OUTSIDE, user.addresses[0], content=Content.PLAIN, signer=("", ""), author=author
                )
                for client in site.strangers
                for user in site.some(1)
                for author in ("", site.postmaster, *(f"postmaster@{each}" for each in site.signed_elsewhere[:1]))
            ],
            site.without_users,
            ("opendkim:trusted_hosts", "networks", "opendkim:options"),
            r"smtpd_milters|milter_\w+",
        ),
        Promise(
            "mail_takes_its_route",
            "Mail to the site's users leaves to the delivery layer, and other mail elsewhere",
            list(site.routed()),
            site.without_users or site.without_some,
            ("delivery", "routes", "postfix:main", "postfix:maps"),
            r"(transport|relay|virtual|local|default|canonical|recipient|smtp)_\w+|relayhost|always_bcc|content_filter",
        ),
        Promise(
            "mail_is_handed_on",
            "Servers that mail is handed on to take it",
            list(site.handed()),
            site.without_users or site.without_some,
            ("delivery", "routes", "verify:outside", "postfix:main", "postfix:maps"),
            r"(transport|relay|default|smtp)_\w+|\w*relayhost\w*",
        ),
    ]
