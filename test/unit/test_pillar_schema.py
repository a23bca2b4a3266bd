"""The site pillar against its schema: the same verdict as JSON Schema's own library, and sentences that help."""

from __future__ import annotations

import copy
import datetime as dt
import time
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from smtpout_core.errors import RelayError
from smtpout_core.site import schema as schema_rules

SITE = yaml.safe_load(r"""
type: object
additionalProperties: false
required: [domains]
properties:
  hostname: {type: string, format: hostname}
  domains: {type: array, minItems: 1, uniqueItems: true, items: {type: string, format: domain}}
  networks: {type: array, items: {type: string, format: cidr}, default: []}
  directory:
    type: object
    additionalProperties: false
    required: [base]
    properties:
      base: {type: string, format: dn}
      password: {type: string, minLength: 8, format: single-line, x-secret: true}
      start_tls: {type: boolean, default: false}
      login: {anyOf: [{enum: [mail, upn]}, {type: string, format: ldap-filter}], x-right: 'mail, upn or a filter'}
  opendkim:
    type: object
    description: The | signer.
    additionalProperties: false
    properties:
      bits:
        {type: integer, minimum: 1024, maximum: 4096, x-reason: what verifiers handle (RFC 8301), default: 2048}
      selector: {type: string, format: selector, default: default, description: Names the key., examples: [s2026]}
      on_fail: {enum: [accept, tempfail], default: tempfail}
      options: {$ref: '#/$defs/options', default: {}, description: Native options.}
  clamav: {type: object, properties: {add_header: {enum: ['Yes', 'No']}, size: {type: [string, integer], format: size}}}
  relays:
    type: object
    propertyNames: {format: domain}
    additionalProperties: {type: [object, 'null'], properties: {user: {type: string}}}
  text: {type: string, pattern: '^[a-z]*$', maxLength: 5}
  letters: {type: string, pattern: '^[a-z]*$', x-right: letters, x-reason: since the map folds case}
  secrets: {type: array, uniqueItems: true, items: {type: string, x-secret: true, enum: [a, b]}}
  choice:
    oneOf:
      - {type: object, required: [file], additionalProperties: false, properties: {file: {type: string}}}
      - {type: object, required: [key], additionalProperties: false, properties: {key: {type: string, x-secret: true}}}
      - {type: integer}
      - {type: number, x-right: a fraction}
$defs:
  options: {type: object, additionalProperties: {type: [string, integer, boolean, 'null']}}
""")

SENTENCES: list[tuple[str, str]] = [
    ("opendkim: {bits: 512}", "opendkim:bits: 512 is below 1024, what verifiers handle (RFC 8301)"),
    ("opendkim: {bits: 8192}", "opendkim:bits: 8192 is above 4096, what verifiers handle (RFC 8301)"),
    ("opendkim: {bits: '2048'}", 'opendkim:bits: "2048" is not a whole number; take the quotes off'),
    ("opendkim: {bits: 2048.0}", "opendkim:bits: 2048.0 is not a whole number"),
    ("opendkim: {bits: true}", "opendkim:bits: true is not a whole number"),
    ("opendkim: {on_fail: acept}", 'opendkim:on_fail: "acept" is not one of accept, tempfail; did you mean accept?'),
    (
        "opendkim: {options: {A: [1]}}",
        "opendkim:options:A: a list is not text or a whole number or true or false or null",
    ),
    ("opendkm: {bits: 512}", "opendkm: unknown key; did you mean opendkim?"),
    ("directory: {base: dc=x, zzz: hunter2}", "directory:zzz: unknown key; known: base, password, start_tls, login"),
    ("directory: {}", "directory:base: missing; must be a distinguished name such as ou=people,dc=example,dc=com"),
    (
        "directory: {base: dc=x, password: 12345678}",
        "directory:password: (secret) is not one line of text; put it in quotes",
    ),
    ("directory: {base: dc=x, password: hunter2}", "directory:password: (secret) is shorter than 8 characters"),
    ('directory: {base: dc=x, password: "hunter22\\n"}', "directory:password: (secret) is not one line of text"),
    ("directory: {base: dc=x, password: [hunter2]}", "directory:password: (secret) is not one line of text"),
    ("directory: {base: dc=x, start_tls: 'no'}", 'directory:start_tls: "no" is not true or false; take the quotes off'),
    (
        "directory: {base: dc=x, login: mial}",
        'directory:login: "mial" is not mail, upn or a filter; did you mean mail?',
    ),
    ("directory: {base: dc=x, login: (a=b}", 'directory:login: "(a=b" is not mail, upn or a filter: a ) is missing'),
    ("directory: 'password=hunter2'", "directory: text is not a mapping"),
    ("clamav: {add_header: No}", "clamav:add_header: false is not one of Yes, No; put it in quotes"),
    (
        "clamav: {size: 25G}",
        'clamav:size: "25G" is not a size such as 25M: a number of bytes, or one with K or M behind it',
    ),
    (
        "clamav: {size: -1}",
        "clamav:size: -1 is not a size such as 25M: a number of bytes, or one with K or M behind it",
    ),
    ("networks: 10.0.0.0/8", "networks: text is not a list"),
    (
        "networks: [10.1.2.3/8]",
        (
            'networks:0: "10.1.2.3/8" is not a network such as 192.0.2.0/24: '
            "it has bits set behind the prefix, 10.0.0.0/8 was meant"
        ),
    ),
    ("domains: []", "domains: no entries, at least 1 must be there"),
    ("domains: [a.example, b.example, a.example]", 'domains:2: "a.example" repeats smtpout:domains:0'),
    ("domains: [2026-11-23]", "domains:0: 2026-11-23 is a date; put it in quotes"),
    ("hostname:", "hostname: null is not a host name such as relay.example.com: it was left empty"),
    ("hostname: .nan", "hostname: nan is not a finite number"),
    ("25: x", "25: the key is not text; put it in quotes"),
    ("on: x", "true: the key is not text; put it in quotes"),
    (
        "relays: {a_b.example: null}",
        (
            "relays:a_b.example: the key is not a domain name such as example.com: "
            '"a_b" may hold letters, digits and, inside, hyphens only (RFC 1123)'
        ),
    ),
    ("relays: {a.example: user}", "relays:a.example: text is not a mapping or null"),
    ('text: "A\\e[31"', 'text: "A\\x1b[31" does not match ^[a-z]*$'),
    ('text: "abc\\n"', 'text: "abc\\n" does not match ^[a-z]*$'),
    ("text: abcdef", 'text: "abcdef" is longer than 5 characters'),
    ("letters: a1", 'letters: "a1" is not letters, since the map folds case'),
    ("secrets: [a, a]", "secrets:1: (secret) repeats smtpout:secrets:0"),
    ("secrets: [hunter2]", "secrets:0: (secret) is not one of a, b"),
    ("choice: {key: 5}", "choice:key: (secret) is not text; put it in quotes"),
    ("choice: 1", "choice: 1 fits more than one of: a whole number; a fraction"),
    ("choice: x", 'choice: "x" is not a mapping or a mapping or a whole number or a fraction'),
]


@pytest.mark.parametrize(("pillar", "sentence"), SENTENCES)
def test_says_what_was_found_and_what_would_be_right(pillar: str, sentence: str) -> None:
    site = {"domains": ["a.example"], **yaml.safe_load(pillar)}
    found = schema_rules.problems(site, SITE)
    assert schema_rules.sentences(found) == [f"smtpout:{sentence}"]


def test_tells_all_problems_at_once_and_always_in_the_same_order() -> None:
    site = {"opendkm": 1, "hostname": None, "networks": ["x"] * 2, "opendkim": {"bits": 512, "on_fail": "no"}}
    found = schema_rules.problems(site, SITE)
    assert [problem["path"] for problem in found] == [
        "smtpout:domains",
        "smtpout:opendkm",
        "smtpout:hostname",
        "smtpout:networks:0",
        "smtpout:networks:1",
        "smtpout:opendkim:bits",
        "smtpout:opendkim:on_fail",
    ]
    assert found == schema_rules.problems(site, SITE)


def test_a_problem_has_the_value_that_was_found() -> None:
    (problem,) = schema_rules.problems({"domains": ["a.example"], "opendkim": {"bits": 512}}, SITE)
    assert problem == {
        "path": "smtpout:opendkim:bits",
        "value": "512",
        "message": "is below 1024, what verifiers handle (RFC 8301)",
    }


def test_data_that_contains_itself_is_refused() -> None:
    within: dict[str, Any] = {"domains": ["a.example"]}
    within["clamav"] = {"site": [within, within]}
    sentences = schema_rules.sentences(schema_rules.problems(within, SITE))
    assert sentences == [f"smtpout:clamav:site:{index}: a mapping contains itself" for index in (0, 1)]


def test_data_too_deep_to_be_meant_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    (problem,) = schema_rules.problems({"domains": ["a.example"], "clamav": {"x": deep}}, SITE)
    assert problem["message"] == "is nested more than 40 deep"
    while deep:  # Python itself can't free it in one go
        deep = deep.pop()


def test_a_long_text_is_shortened() -> None:
    (sentence,) = schema_rules.sentences(schema_rules.problems("x" * 10_000_000, {"maxLength": 5}))
    assert sentence == f'smtpout: "{"x" * 57}..." is longer than 5 characters'


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.datetimes(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.none() | st.integers() | st.floats() | st.text() | st.dates(), inner)
    ),
    max_leaves=10,
)
SITE_LIKE = st.dictionaries(st.sampled_from(list(SITE["properties"])) | st.text(), ODD)


@given(site=ODD | SITE_LIKE | st.fixed_dictionaries({}, optional=dict.fromkeys(SITE["properties"]["directory"], ODD)))
def test_no_data_raises_or_breaks_the_line(site: object) -> None:
    for sentence in schema_rules.sentences(schema_rules.problems(site, SITE)):
        assert sentence.isprintable()
        assert len(sentence) < 1000


@pytest.mark.parametrize(
    "value",
    [object(), b"\xff", {1, 2}, "\ud800\u202e", 10**5000, -(10**5000), float("inf"), (1, 2), dt.time(1), {(1, 2): 3}],
    ids=lambda value: type(value).__name__,
)
def test_what_no_yaml_says_is_told_of_plainly(value: object) -> None:
    for site in (value, {"domains": value}, {"domains": [value]}, {"opendkim": {"bits": value}}):
        sentences = schema_rules.sentences(schema_rules.problems(site, SITE))
        assert sentences
        assert all(sentence.isprintable() and len(sentence) < 300 for sentence in sentences)


SECRET = {
    "properties": {
        "password": {"type": "string", "format": "domain", "pattern": "^x$", "maxLength": 3, "x-secret": True},
        "nested": {
            "x-secret": True,
            "properties": {
                "a": {"enum": ["b"]},
                "c": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
            },
        },
        "either": {"anyOf": [{"type": "string", "format": "cidr", "x-secret": True}, {"enum": ["x", "y"]}]},
        "room": {"type": "object", "additionalProperties": False, "properties": {"key": {"x-secret": True}}},
    }
}


@given(secret=st.from_regex(r"[QZ]{6}[a-z.:/= \n]{0,5}", fullmatch=True))
def test_a_secret_is_in_no_problem(secret: str) -> None:
    sites = [
        {"password": secret, "either": secret, "nested": {"a": secret, "c": [secret, secret, [secret]]}},
        {"password": [secret], "nested": secret, "room": secret},
        {"password": {"a": secret}, "nested": {"c": secret}, "room": {"keu": secret}},
    ]
    for site in sites:
        found = schema_rules.problems(site, SECRET)
        assert found
        assert secret[:6] not in str(found)


NAMES = st.sampled_from(["a", "b", "ab"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 2, -1, 0.0, 1.0, 0.5]) | st.text("ab1.-", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
PATTERNS = st.sampled_from(["a", "^a", "b$", "^[ab]*$", "[$a]", r"^\d$", "^$", r"\.", "^(a|1)+$"])
SCALAR_KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(SCALARS, min_size=1, max_size=3),
    "const": SCALARS,
    "minimum": st.sampled_from([-1, 0, 0.5, 1]),
    "maximum": st.sampled_from([-1, 0, 0.5, 1]),
    "minLength": st.integers(0, 2),
    "maxLength": st.integers(0, 2),
    "pattern": PATTERNS,
    "description": st.just("ignored"),
}


def _some(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return schemas of at most three of the keywords: more would hardly ever let a value pass."""
    chosen = st.lists(st.sampled_from(list(keywords)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = {"items": inner, "minItems": st.integers(0, 2), "uniqueItems": st.booleans()}
    objects = {
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "additionalProperties": st.booleans() | inner,
        "propertyNames": inner,
    }
    choices = {keyword: st.lists(inner, min_size=1, max_size=3) for keyword in ("anyOf", "oneOf")}
    return _some(arrays) | _some(objects) | _some(choices) | _some({**SCALAR_KEYWORDS, **arrays, **objects, **choices})


LEAVES = st.just(True) | st.just({"$ref": "#/$defs/there"}) | _some(SCALAR_KEYWORDS)
SCHEMAS = st.tuples(_larger(st.recursive(LEAVES, _larger, max_leaves=4)), _some(SCALAR_KEYWORDS))

# as the evaluator has it, 1.0 is not an integer
STRICT = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


TRAPS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"enum": [1, False, "a"], "const": 1}, [True, 1, 1.0, 0, False, "a"]),
    ({"enum": [1, False], "type": ["integer", "boolean", "array"]}, [True, 1, 0, False, [1]]),
    (
        {"uniqueItems": True},
        [[True, 1], [0, False], [1, 1.0], [[1], [True]], [{"a": 1}, {"a": 1.0}], [{"a": 1}, {"a": True}]],
    ),
    (
        {
            "properties": {"ab": {"maximum": 2}},
            "patternProperties": {"^a": {"type": "integer"}, "b": {"minimum": 1}},
            "additionalProperties": False,
        },
        [{"ab": 3}, {"ab": 1}, {"ab": 0}, {"ab": 1.5}, {"a": "x"}, {"b": 0}, {"b": 1}, {"c": 1}],
    ),
]


@example((TRAPS[0][0], {}), TRAPS[0][1])
@example((TRAPS[1][0], {}), TRAPS[1][1])
@example((TRAPS[2][0], {}), TRAPS[2][1])
@example((TRAPS[3][0], {}), TRAPS[3][1])
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(schemas=SCHEMAS, values=st.lists(VALUES, min_size=1, max_size=5))
def test_the_verdict_is_that_of_json_schema(schemas: tuple[dict[str, Any], dict[str, Any]], values: list[Any]) -> None:
    schema = {**schemas[0], "$defs": {"there": schemas[1]}}
    for value in values:
        assert (schema_rules.problems(value, schema) == []) == STRICT(schema).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"multipleOf": 2}, "at #: not supported: keyword multipleOf"),
        ({"properties": {"a": {"items": {"maxItems": 2}}}}, "at #/a/items: not supported: keyword maxItems"),
        ({"type": "text"}, "type text"),
        ({"format": "e-mail"}, "format e-mail"),
        ({"pattern": "("}, "pattern ("),
        ({"patternProperties": {"[": {}}}, "pattern ["),
        ({"enum": [["a"]]}, "a list or a mapping in enum or const"),
        ({"items": False}, "neither a mapping nor true"),
        ({"$ref": "#/$defs/nowhere"}, "which is no part of $defs"),
        ({"$ref": "https://example.com/schema"}, "which is no part of $defs"),
        ({"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {}}}, "minimum beside $ref"),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "leads back to itself"),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/a"}}}, "leads back to itself"),
    ],
)
def test_a_schema_that_asks_for_more_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(RelayError, match=r"The pillar's schema, at #") as refused:
        schema_rules.problems({}, schema)
    assert words in str(refused.value)


def test_ten_thousand_domains_take_a_moment() -> None:
    site = {"domains": [f"domain{number}.example" for number in range(10_000)]}
    schema_rules.problems(site, SITE)
    started = time.process_time()
    assert schema_rules.problems(site, SITE) == []
    assert time.process_time() - started < 0.3


def test_the_defaults_are_nested_as_the_keys_are() -> None:
    assert schema_rules.defaults(SITE) == {
        "networks": [],
        "directory": {"start_tls": False},
        "opendkim": {"bits": 2048, "selector": "default", "on_fail": "tempfail", "options": {}},
        "clamav": {},
    }


def test_the_defaults_belong_to_the_caller() -> None:
    schema = copy.deepcopy(SITE)
    schema_rules.defaults(schema)["networks"].append("10.0.0.0/8")
    assert schema == SITE


def test_the_reference_has_a_row_for_every_key() -> None:
    rows = schema_rules.reference(SITE).splitlines()
    assert rows[:2] == ["| Key | Takes | Default | Meaning | Example |", "| --- | --- | --- | --- | --- |"]
    for row in (
        "| `smtpout:domains` | a list, each a domain name such as example.com | required |  |  |",
        "| `smtpout:opendkim` | a mapping |  | The \\| signer. |  |",
        "| `smtpout:opendkim:bits` | a whole number from 1024 to 4096 | `2048` |  |  |",
        '| `smtpout:opendkim:selector` | a selector such as s2026 | `"default"` | Names the key. | `"s2026"` |',
        "| `smtpout:relays:<name>:user` | text |  |  |  |",
        "| `smtpout:choice:key` | text | required |  |  |",
    ):
        assert row in rows
    assert len(rows) == len(set(rows))
