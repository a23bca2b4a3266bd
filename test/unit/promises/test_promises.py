"""Each promise is kept by a right site, and broken by what breaks it: asked of a real chain, as an apply asks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Site, delivery_layer, real  # type: ignore[attr-defined]
from minions import Settings
from smtpout_core.directory import people
from smtpout_core.directory.people import Person
from smtpout_core.promises import asked, derived, judged, mentioned
from smtpout_core.promises.entrances import Entrances
from smtpout_core.promises.promise import Outcome
from support import REPOSITORY, load


def main(**parameters: Any) -> dict[str, Any]:
    return {"postfix": {"main": parameters}}


def master(service: str, **options: Any) -> dict[str, Any]:
    return {"postfix": {"master": {service: {"options": options}}}}


CLIENTS = [
    {"networks": ["172.16.30.0/24"], "senders": ["scanner@domain01.dom"], "tls": True},
    {"networks": ["172.16.31.7/32"], "senders": ["@domain02.dom", "alarm@device.example"], "outside": True},
]
LIMITED = [{**each, "limit": 5} for each in CLIENTS]
BLOCKED = {
    "logins": ["Usuario02@domain02.dom", "gone"],
    "senders": ["noisy@partner.example", "@bad.example"],
    "recipients": ["drop@phisher.example"],
    "clients": ["172.16.10.7", "203.0.113.0/24"],
}
LIMITS = {"messages": {"day": 1}}
# What a site sets, by the promise that it breaks, among others perhaps.
BROKEN = {
    "strangers_reach_users": main(smtpd_client_restrictions="permit_mynetworks, reject"),
    "strangers_reach_the_postmaster": main(smtpd_delay_reject=False, smtpd_client_restrictions="reject"),
    "strangers_do_not_relay": master("smtp/inet", mynetworks="0.0.0.0/0"),
    "strangers_do_not_send_as_the_site": main(smtpd_sender_restrictions=""),
    "unknown_recipients_are_refused": main(relay_recipient_maps=""),
    "servers_send": main(mynetworks="127.0.0.0/8, [::1]/128"),
    "blocked_are_refused": {
        "blocked": {"logins": ["usuario01"]},
        **main(smtpd_recipient_restrictions={"prepend": "permit_sasl_authenticated"}),
    },
    "clients_send_as_they_may": {
        "clients": CLIENTS,
        **main(smtpd_sender_restrictions={"prepend": "check_client_access static:OK"}),
    },
    "programs_send": main(mynetworks="127.0.0.0/8, 172.16.10.0/24"),
    "users_send": master("submission/inet", smtpd_relay_restrictions="reject"),
    "users_log_in": main(smtpd_sasl_path="elsewhere", cyrus_sasl_config_path="/nowhere"),
    "passwords_are_encrypted": master("smtp/inet", smtpd_tls_auth_only=False),
    "only_users_submit": master("465/inet", smtpd_relay_restrictions="permit_mynetworks, reject"),
    "users_send_as_themselves": main(smtpd_sender_restrictions=""),
    "authors_are_users": master("submission/inet", cleanup_service_name="cleanup"),
    "logins_are_limited": {
        "limits": LIMITS,
        **main(smtpd_data_restrictions={"prepend": "permit_sasl_authenticated"}),
    },
    "clients_are_limited": {
        "clients": LIMITED,
        **main(smtpd_data_restrictions={"prepend": "check_client_access cidr:{{172.16.31.7 OK}}"}),
    },
    "viruses_are_stopped": master("submission/inet", receive_override_options="no_milters"),
    "users_stay_private": master("submission/inet", cleanup_service_name="cleanup"),
    "mail_is_signed": main(non_smtpd_milters=""),
    "strangers_are_not_signed": {"opendkim": {"options": {"InternalHosts": "csl:203.0.113.9"}}},
    "mail_takes_its_route": main(transport_maps=""),
    "mail_is_handed_on": main(relayhost="[127.0.0.1]:1"),
}  # fmt: skip


def test_the_pillar_knows_each_promise_by_its_sentence(settings: Settings) -> None:
    schema = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))
    written = {
        name: known["description"].removesuffix(" Default, true.").partition(" (with")[0].rstrip(".")
        for name, known in schema["properties"]["promises"]["properties"].items()
    }
    made = settings({**load("default")["smtpout"], "clients": LIMITED, "blocked": BLOCKED, "limits": LIMITS})
    assert written == {each.name: each.sentence for each in derived.everything(made)}
    assert set(written) == set(BROKEN)


@real
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"clients": LIMITED, "limits": {"messages": {"day": 1}}},
        {"clients": LIMITED},
        {"directory": {"proxy": True}},
    ],
    ids=["as it is", "with clients and limits", "with limits of clients alone", "by HAProxy"],
)
def test_a_right_site_keeps_all(site: Callable[..., Site], given: dict[str, Any]) -> None:
    verdicts = site(**given).verdicts()
    assert {name: verdict.seen for name, verdict in verdicts.items() if verdict.outcome is not Outcome.KEPT} == {}
    assert all(verdict.promise.questions for verdict in verdicts.values())


@real
def test_whom_the_site_blocks_is_refused_and_all_others_are_served(site: Callable[..., Site]) -> None:
    verdicts = site(blocked=BLOCKED, directory={"login": ["uid", "mail"]}).verdicts()
    assert {name: verdict.seen for name, verdict in verdicts.items() if verdict.outcome is Outcome.BROKEN} == {}
    assert verdicts["blocked_are_refused"].outcome is Outcome.KEPT


@real
def test_a_domain_that_is_signed_here_alone_is_asked(site: Callable[..., Site], keys: dict[str, str]) -> None:
    own = {"domains": {"news.example": {"key_file": keys["domain01.dom"]}}}
    verdicts = site(signed_domains=["news.example"], opendkim=own).verdicts()
    for name in ("mail_is_signed", "strangers_are_not_signed"):
        promise = verdicts[name].promise
        assert verdicts[name].outcome is Outcome.KEPT, verdicts[name].seen
        assert any("postmaster@news.example" in (each.sender, each.author) for each in promise.questions)


@real
def test_the_parameter_that_was_seen_to_break_it_is_named(site: Callable[..., Site]) -> None:
    made = site(**main(smtpd_authorized_xclient_hosts="static:all", relay_domains="domain01.dom, domain02.dom"))
    verdict = made.verdict("strangers_do_not_relay")
    said = asked.causes(made.settings, verdict.promise, verdict.wrong)
    assert said.startswith("Look at smtpout:postfix:main:smtpd_authorized_xclient_hosts; or take it back: ")


@real
@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_promise_is_seen(site: Callable[..., Site], name: str) -> None:
    made = site(**BROKEN[name])
    verdict = made.verdict(name)
    assert verdict.outcome is Outcome.BROKEN, verdict
    assert f"smtpout:promises:{name}: false" in asked.causes(made.settings, verdict.promise, verdict.wrong)


SERVICES: dict[str, Any] = {
    "postscreen": {
        "smtp/inet": {"private": "n", "maxproc": 1, "command": "postscreen"},
        "smtpd/pass": {"command": "smtpd"},
        "dnsblog/unix": {"maxproc": 0, "command": "dnsblog"},
    },
    "other names": {"submission/inet": None, "587/inet": {"private": "n", "command": "smtpd", "options": {
        "smtpd_tls_security_level": "encrypt", "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        "cleanup_service_name": "private-cleanup"}}},
    "a policy service of Postfix's own": {"policy/unix": {"unpriv": "n", "maxproc": 0, "command": (
        "spawn user=nobody argv=/bin/sh -c 'while read l; do [ -z $l ] && printf action=DUNNO\\n\\n; done'")}},
}  # fmt: skip
# Ordinary changes from public reports, each of which an apply once took for right; and what each breaks.
REPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "only one of two filters is named": (
        {
            "opendkim": {"socket": "inet:8891@localhost"},
            **main(smtpd_milters="inet:localhost:8891", non_smtpd_milters="inet:localhost:8891"),
        },
        "viruses_are_stopped",
    ),
    "a table of partners takes the place of the site's routes": (
        main(transport_maps="inline:{{outside.example=smtp:[198.51.100.10]:25}}"), "mail_takes_its_route",
    ),
    "a partner's domain takes the place of the site's": (
        main(relay_domains="partner.example"), "strangers_reach_users",
    ),
    "one of five domains is forgotten": (
        {"domains": ["a.dom", "b.dom", "domain02.dom", "c.dom", "domain01.dom"],
         **main(relay_domains="a.dom, b.dom, c.dom, domain01.dom")}, "strangers_reach_users",
    ),
    "users of one of five domains may not send": (
        {"domains": ["domain01.dom", "b.dom", "domain02.dom", "c.dom", "d.dom"],
         **main(smtpd_sender_restrictions={"prepend": "check_sender_access inline:{{domain02.dom=REJECT}}"})},
        "users_send",
    ),
    "servers may not send for one of five domains": (
        {"domains": ["domain01.dom", "b.dom", "domain02.dom", "c.dom", "d.dom"],
         **main(smtpd_sender_restrictions={
             "prepend": ["permit_sasl_authenticated", "check_sender_access inline:{{domain02.dom=REJECT}}"]})},
        "servers_send",
    ),
    "a policy service isn't there": (
        main(
            smtpd_recipient_restrictions="permit_mynetworks, reject_unauth_destination, "
            "check_policy_service inet:127.0.0.1:10023"
        ),
        "strangers_reach_users",
    ),
    "a server sends without a login where old devices do": (
        {"authentication": {"old_devices_port": 2587},
         **master("2587/inet", smtpd_relay_restrictions="permit_mynetworks, reject")},
        "only_users_submit",
    ),
    "a user sends with any address where old devices do": (
        {"authentication": {"old_devices_port": 2587}, **master("2587/inet", smtpd_sender_restrictions="")},
        "users_send_as_themselves",
    ),
    "a user's From: is there twice": (
        {"opendkim": {"options": {"StrictHeaders": True}}}, "authors_are_users",
    ),
    "a user's From: isn't looked at where old devices do": (
        {"authentication": {"old_devices_port": 2587}, **master("2587/inet", cleanup_service_name=None)},
        "authors_are_users",
    ),
    "a user's From: that can't be read passes by 25": (
        {"directory": {"senders": "own_header"}, **main(header_checks="")}, "authors_are_users",
    ),
    "users' mail passes by the signer": (
        {"directory": {"senders": "own_header"},
         **master("465/inet", smtpd_milters="unix:/run/clamav/clamav-milter.ctl")},
        "authors_are_users",
    ),
    "TLS is asked of everybody": (main(smtpd_tls_security_level="encrypt"), "strangers_reach_users"),
    "a table of networks holds all of them": (
        main(mynetworks="cidr:{{10.0.0.0/8 OK}, {0.0.0.0/0 OK}}"), "strangers_do_not_relay",
    ),
    "a client is refused before it can log in": (
        master("submission/inet", smtpd_client_restrictions="permit_sasl_authenticated,reject"), "users_send",
    ),
    "one of five networks is forgotten": (
        {"networks": [f"172.16.{number}.0/24" for number in range(10, 15)],
         **main(mynetworks="127.0.0.0/8, [::1]/128, 172.16.10.0/23, 172.16.13.0/24, 172.16.14.0/24")}, "servers_send",
    ),
    "postmaster is nobody in each domain": (main(virtual_alias_maps=""), "strangers_reach_the_postmaster"),
    "a limit is no number, which shows with the first message": (
        main(smtp_destination_recipient_limit="root"), "mail_takes_its_route",
    ),
    "the relay's own mail goes round in circles": (main(mydestination="localhost"), "strangers_reach_the_postmaster"),
    "one user's mail takes a way that is none": (
        main(sender_dependent_default_transport_maps="inline:{{usuario02@domain02.dom=nowhere:}}"), "mail_is_signed",
    ),
    "one user's address is another when mail leaves": (
        main(smtp_generic_maps="inline:{{usuario02@domain02.dom=somebody@outside.example}}"), "mail_is_signed",
    ),
    "a network that nobody else is in isn't scanned": (
        {"clamav": {"milter": {"LocalNet": "198.51.100.0/24"}}}, "viruses_are_stopped",
    ),
    "a login isn't scanned": ({"clamav": {"milter": {"SkipAuthenticated": "^usuario02$"}}}, "viruses_are_stopped"),
    "signatures are made as nobody takes them any more": (
        {"opendkim": {"options": {"SignatureAlgorithm": "rsa-sha1"}}}, "mail_is_signed",
    ),
    "a server sends with addresses of users alone": (main(smtpd_reject_unlisted_sender=True), "servers_send"),
    "the administrators are nobody": ({"administrators": ["gone@domain01.dom"]}, "strangers_reach_users"),
    "an alias leads to nobody": ({"aliases": {"sales@domain01.dom": ["gone@domain02.dom"]}}, "strangers_reach_users"),
    "nothing is refused": (main(smtpd_relay_restrictions="permit, reject"), "strangers_do_not_relay"),
    "a domain of the site is delivered here": (main(mydestination="localhost, domain02.dom"), "mail_takes_its_route"),
    "a domain of the site is one of aliases": (main(virtual_alias_domains="domain02.dom"), "mail_takes_its_route"),
    "no filter is named": (main(smtpd_milters=""), "mail_is_signed"),
    "there is no certificate": (main(smtpd_tls_chain_files=None), "users_send"),
    "there is no TLS, and users come by port 25 alone": (
        {"authentication": {"submission": False}, **main(smtpd_tls_security_level=None)}, "users_send",
    ),
    "a pipe takes all mail": (main(default_transport="discard", transport_maps=""), "mail_takes_its_route"),
    "mail is held": (main(smtpd_client_restrictions="static:HOLD"), "mail_is_signed"),
    "mail stays in the queue": (main(defer_transports="smtp"), "mail_takes_its_route"),
    "a subject is another when mail leaves": (
        main(smtp_header_checks="regexp:{{/^Subject:/ REPLACE Subject: ours}}"), "mail_is_signed",
    ),
    "an author is another when mail leaves": (
        main(smtp_generic_maps="inline:{{postmaster@domain01.dom=hostmaster@domain01.dom}}"), "mail_is_signed",
    ),
    "one of the ways out adds a text": (
        master("smtp/unix", smtp_body_checks="regexp:{{/promise/ PREPEND ours}}"), "mail_is_signed",
    ),
    "lines are cut when mail leaves": (master("smtp/unix", smtp_line_length_limit=60), "mail_is_signed"),
    "long lines are cut when mail leaves, as by default": (main(smtp_line_length_limit=998), "mail_is_signed"),
    "8 bits are made 7 for a server that takes no more": (main(disable_mime_output_conversion="no"), "mail_is_signed"),
    "attachments aren't looked into": ({"clamav": {"clamd": {"ScanMail": False}}}, "viruses_are_stopped"),
    "archives aren't looked into": ({"clamav": {"clamd": {"ScanArchive": False}}}, "viruses_are_stopped"),
    "no cipher is left for others' TLS": (main(smtp_tls_ciphers="best"), "mail_is_handed_on"),
    "TLS is spoken as nobody speaks it": (
        main(smtp_tls_security_level="encrypt", smtp_tls_mandatory_protocols=">=TLSv1.4"), "mail_is_handed_on",
    ),
    "nobody looks for servers outside": (main(disable_dns_lookups="yes"), "mail_is_handed_on"),
    "the service doesn't look for them": (master("smtp/unix", smtp_dns_support_level="disabled"), "mail_is_handed_on"),
    "servers outside are asked at another port": (main(smtp_tcp_port=2525), "mail_is_handed_on"),
    "what DNS says of servers outside is left out": (
        main(smtp_dns_reply_filter="regexp:{{/ MX / IGNORE}}"), "mail_is_handed_on",
    ),
    "others are spoken to in LMTP": (main(default_transport="lmtp"), "mail_is_handed_on"),
    "a few hops are too many": (main(hopcount_limit=5), "mail_is_signed"),
    "signatures end at once": ({"opendkim": {"options": {"SignatureTTL": 60}}}, "mail_is_signed"),
    "who is here is somebody else, whom nobody knows": (
        main(alias_maps="regexp:{{/./ DISCARD}}"), "strangers_reach_the_postmaster",
    ),
    "a letter of root's name begins an extension": (main(recipient_delimiter="t"), "strangers_reach_the_postmaster"),
    "mailboxes lie in a folder that isn't there": (
        master("local/unix", mail_spool_directory="/nowhere"), "strangers_reach_the_postmaster",
    ),
    "nobody but programs here is listened to": (main(inet_interfaces="loopback-only"), "strangers_reach_users"),
    "users' port for TLS speaks none at first": (master("465/inet", smtpd_tls_wrappermode=False), "users_send"),
    "every port begins with TLS": (main(smtpd_tls_wrappermode=True), "strangers_reach_users"),
    "anybody is whom the line of a balancer names": (
        master("smtp/inet", smtpd_upstream_proxy_protocol="haproxy"), "strangers_do_not_relay",
    ),
    "anybody is whom he says he is": (
        main(smtpd_authorized_xclient_hosts="static:all"), "strangers_do_not_send_as_the_site",
    ),
    "users' port under another name is for programs here alone": (
        {"postfix": {"master": {
            "submission/inet": None, "127.0.0.1:587/inet": SERVICES["other names"]["587/inet"]}}}, "users_send",
    ),
    "anybody is whom he says he is, where users send": (
        master("submission/inet", smtpd_authorized_xclient_hosts="0.0.0.0/0"), "only_users_submit",
    ),
    "a good answer is taken for a bad one": (
        main(smtp_reply_filter="regexp:{{/^250 2/ 450 4.0.0 later}}"), "programs_send",
    ),
}  # fmt: skip


@real
@pytest.mark.parametrize("change", REPORTED)
def test_what_an_apply_once_took_for_right_is_seen(site: Callable[..., Site], change: str) -> None:
    pillar, name = REPORTED[change]
    verdict = site(**pillar).verdict(name)
    assert verdict.outcome is Outcome.BROKEN, verdict


@real
@pytest.mark.parametrize(
    ("kind", "entry"),
    [("regexp", r"/^usuario02@domain02\.dom$/ x@y.example"), ("texthash", "usuario02@domain02.dom x@y.example")],
)
def test_whom_a_file_of_the_sites_own_names_is_asked_as(
    site: Callable[..., Site], keys: dict[str, str], kind: str, entry: str
) -> None:
    table = Path(keys["domain01.dom"]).with_name("generic")  # not in /tmp: a trial has its own
    table.write_text(f"{entry}\n", encoding="utf-8")
    table.chmod(0o644)
    made = site(**main(smtp_generic_maps=f"{kind}:{table}")).verdict("mail_is_signed")
    assert made.outcome is Outcome.BROKEN
    assert any("<usuario02@domain02.dom>" in each for each in made.seen), made.seen
    table.chmod(0o640)  # passwords are nobody else's to read
    assert mentioned.addresses(site(**main(smtp_generic_maps=f"{kind}:{table}")).settings) == []


@real
def test_a_site_adds_to_what_the_formula_needs_and_keeps_all(site: Callable[..., Site]) -> None:
    made = site(
        **main(
            transport_maps={"prepend": "inline:{{outside.example=smtp:[198.51.100.10]:25}}"},
            relay_domains={"append": ["partner.example"]},
            mynetworks={"append": "192.0.2.64/26"},
            smtpd_sender_restrictions={"append": ["reject_non_fqdn_sender"]},
        )
    )
    assert {name: each.seen for name, each in made.verdicts().items() if each.outcome is not Outcome.KEPT} == {}


@real
@pytest.mark.parametrize("parameter", ["default_destination_rate_delay", "smtp_destination_rate_delay"])
def test_mail_that_waits_for_hours_behind_other_mail_is_seen(site: Callable[..., Site], parameter: str) -> None:
    verdicts = site(**main(**{parameter: "1h"})).verdicts()  # all are asked: a single message doesn't wait
    assert verdicts["mail_takes_its_route"].outcome is Outcome.BROKEN


@real
def test_mail_that_is_throttled_is_no_broken_promise(site: Callable[..., Site]) -> None:
    made = site(
        **main(smtp_destination_rate_delay="2s", default_destination_rate_delay="1m", default_transport_rate_delay="5s")
    )
    assert {name: each.seen for name, each in made.verdicts().items() if each.outcome is not Outcome.KEPT} == {}


@real
def test_a_filter_may_be_named_in_other_words(site: Callable[..., Site]) -> None:
    made = site(
        opendkim={"socket": "inet:8891@localhost"},
        **main(smtpd_milters="unix:/run/clamav/clamav-milter.ctl, inet:localhost:8891"),
    )
    assert {name: each.seen for name, each in made.verdicts().items() if each.outcome is not Outcome.KEPT} == {}


@real
@pytest.mark.parametrize("name", SERVICES)
def test_services_of_the_site_s_own_are_asked_as_those_that_they_stand_for(
    site: Callable[..., Site], name: str
) -> None:
    verdicts = site(postfix={"master": SERVICES[name]}).verdicts()
    assert {name: each.seen for name, each in verdicts.items() if each.outcome is not Outcome.KEPT} == {}


@real
def test_what_a_signature_does_not_cover_may_change_when_mail_leaves(site: Callable[..., Site]) -> None:
    verdicts = site(**main(smtp_header_checks="regexp:{{/^Received:/ IGNORE}, {/^X-/ IGNORE}}")).verdicts()
    assert {name: each.seen for name, each in verdicts.items() if each.outcome is not Outcome.KEPT} == {}


@real
def test_a_copy_of_all_mail_leaves_nowhere(site: Callable[..., Site]) -> None:
    touched = Path(tempfile.gettempdir()) / "a-program-of-the-site-ran"
    made = site(**main(always_bcc="archive@[198.51.100.26]", mailbox_command=f"touch {touched}"))
    assert {name: each.seen for name, each in made.verdicts().items() if each.outcome is not Outcome.KEPT} == {}
    assert not touched.exists()


@real
def test_a_domain_without_users_is_not_proven_to_be_routed(site: Callable[..., Site]) -> None:
    made = site(domains=["domain01.dom", "domain02.dom", "domain03.dom"])
    verdict = made.verdict("mail_takes_its_route")
    assert (verdict.outcome, verdict.seen) == (Outcome.UNPROVEN, ["the directory shows no user in domain03.dom"])


def test_who_has_nobody_outside_proves_nothing_of_strangers(settings: Settings) -> None:
    pillar = load("default")["smtpout"] | {"networks": ["203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24"]}
    made = settings(pillar | {"promises": {"strangers_do_not_relay": True}})
    [promise] = [each for each in derived.promised(made, [], [4]) if each.name == "strangers_do_not_relay"]
    nexthops = judged.Nexthops({}, [], "", {}, {})
    judges = judged.Judges(judged.Signers(made), nexthops, Entrances({}, lambda *_: ""))
    assert judged.verdict(promise, {}, judges, "").outcome is Outcome.UNPROVEN


@real
def test_a_promise_that_is_taken_back_is_not_asked(site: Callable[..., Site]) -> None:
    made = site(**main(smtpd_sender_restrictions=""), promises={"strangers_do_not_send_as_the_site": False})
    verdicts = made.verdicts()
    assert "strangers_do_not_send_as_the_site" not in verdicts
    assert {verdict.outcome for verdict in verdicts.values()} <= {Outcome.KEPT, Outcome.BROKEN}


@real
def test_without_a_certificate_those_are_left_out_who_need_tls_and_the_same_each_time(
    site: Callable[..., Site],
) -> None:
    made = site(tls={"chain_file": "/etc/site/gone.pem"})
    once, again = (
        {name: verdict.seen for name, verdict in made.verdicts().items() if verdict.outcome is Outcome.BROKEN}
        for _ in range(2)
    )
    assert once == again
    assert "users_log_in" in once
    assert not {"strangers_reach_users", "servers_send", "programs_send"} & once.keys()
    assert [line for seen in once.values() for line in seen if "STARTTLS: the connection ends" not in line] == []


# What stands where mail is handed on to, by what is seen of it.
BAD_NEXTHOPS = {
    "said: 500 5.3.0 Error: command failed (in reply to RCPT TO command)": ("-f", "RCPT"),
    "said: 450 4.3.0 Error: command failed (in reply to RCPT TO command)": ("-r", "RCPT"),
    "refused to talk to me: 500": ("-f", "CONNECT"),
    "while sending MAIL FROM": ("-q", "MAIL"),
}


@real
@pytest.mark.parametrize("seen", BAD_NEXTHOPS)
def test_a_delivery_layer_that_does_not_take_mail_is_seen(site: Callable[..., Site], seen: str) -> None:
    with delivery_layer(*BAD_NEXTHOPS[seen]) as nexthop:
        verdict = site(delivery={"nexthop": nexthop}).verdict("mail_is_handed_on")
    assert verdict.outcome is Outcome.BROKEN
    assert all(f"{nexthop} doesn't take it: " in line and seen in line for line in verdict.seen), verdict.seen


@real
def test_a_delivery_layer_that_has_no_tls_where_it_must_is_seen(site: Callable[..., Site]) -> None:
    verdict = site(**main(smtp_tls_security_level="encrypt")).verdict("mail_is_handed_on")
    assert verdict.outcome is Outcome.BROKEN
    assert "TLS is required, but was not offered by host 127.0.0.1" in verdict.seen[0]


@real
def test_replies_of_dns_that_nobody_needs_may_be_left_out(site: Callable[..., Site]) -> None:
    made = site(**main(smtp_dns_reply_filter="regexp:{{/ IN AAAA / IGNORE}}"))
    assert made.verdict("mail_is_handed_on").outcome is Outcome.KEPT


@real
def test_all_mail_by_a_smart_host_needs_no_look_up(site: Callable[..., Site]) -> None:
    with delivery_layer() as smart:
        made = site(**main(relayhost=smart.removeprefix("smtp:"), disable_dns_lookups="yes"))
        assert made.verdict("mail_is_handed_on").outcome is Outcome.KEPT


@real
def test_a_smart_host_takes_whom_it_takes_but_has_to_talk_to_the_relay(site: Callable[..., Site]) -> None:
    with delivery_layer("-f", "RCPT") as smart:
        verdict = site(**main(relayhost=smart.removeprefix("smtp:"))).verdict("mail_is_handed_on")
    assert (verdict.outcome, verdict.seen) == (Outcome.KEPT, [])
    with delivery_layer("-f", "MAIL") as smart:
        verdict = site(**main(relayhost=smart.removeprefix("smtp:"))).verdict("mail_is_handed_on")
    assert verdict.outcome is Outcome.BROKEN


def test_users_are_posed_as_with_each_form_of_their_login(site: Callable[..., Site]) -> None:
    verdict = site(directory={"login": ["uid", "mail"]}).verdict("users_send")
    assert verdict.outcome is Outcome.KEPT, verdict.seen
    assert {"usuario01", "usuario01@domain01.dom"} <= {question.login for question in verdict.promise.questions}


def test_a_name_that_two_users_have_poses_as_nobody() -> None:
    one, other = Person(("juan", "shared@domain01.dom"), ("juan@domain01.dom",)), Person(("Shared@domain01.dom",), ())
    assert list(people.distinct([one, other])) == [one._replace(logins=("juan",))]


@real
def test_where_the_header_counts_all_is_kept_and_more_is_asked(site: Callable[..., Site]) -> None:
    own, own_header = (site(directory={"senders": senders}).verdicts() for senders in ("own", "own_header"))
    assert {name: each.seen for name, each in own_header.items() if each.outcome is not Outcome.KEPT} == {}
    asked_of = [len(made["authors_are_users"].promise.questions) for made in (own, own_header)]
    assert asked_of == [3 * 4 + 2, 3 * 9]


@real
def test_a_script_of_the_sites_own_takes_the_place_of_the_formulas(
    site: Callable[..., Site], keys: dict[str, str]
) -> None:
    script = Path(keys["domain01.dom"]).with_name("own.lua")  # not in /tmp: a trial has its own
    script.write_text("return nil\n", encoding="utf-8")
    made = site(opendkim={"options": {"FinalPolicyScript": str(script)}})
    assert made.settings["opendkim"]["judges_authors"] is False
    verdict = made.verdict("authors_are_users")
    assert (verdict.outcome, verdict.seen) == (Outcome.KEPT, [])


def test_a_shared_address_is_for_who_is_named_and_for_nobody_else(site: Callable[..., Site]) -> None:
    address = "noreply@domain01.dom"
    made = site(shared_addresses={"NoReply@domain01.dom": ["usuario02"]}).verdicts()
    for name, logins in (("users_send", {"usuario02"}), ("users_send_as_themselves", {derived.NOBODY})):
        assert made[name].outcome is Outcome.KEPT, made[name].seen
        assert {each.login for each in made[name].promise.questions if each.sender == address} == logins


def test_nobody_is_asked_with_the_address_of_a_user_who_names_delegates(site: Callable[..., Site]) -> None:
    senders = []
    for delegates in ("none", "cn"):  # whatever all of them have
        made = site(directory={"delegates": delegates}).verdict("users_send_as_themselves")
        assert made.outcome is Outcome.KEPT, made.seen
        senders.append({each.sender for each in made.promise.questions})
    assert senders == [{"usuario02@domain02.dom", f"{derived.NOBODY}@domain01.dom"}, {f"{derived.NOBODY}@domain01.dom"}]


def test_who_is_called_something_beyond_ascii_is_not_posed_as(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings(load("default")["smtpout"])
    entries = [
        {"sAMAccountName": ["josé"], "mail": ["jose@domain01.dom"]},
        {"sAMAccountName": ["joao"], "mail": ["joão@domain01.dom"]},
        {"sAMAccountName": ["ana"], "mail": ["ana@domain01.dom"]},
    ]
    monkeypatch.setattr(people.ask, "entries", lambda *_: entries)
    assert people.found(made, ["domain01.dom"]) == [Person(("ana",), ("ana@domain01.dom",))]
