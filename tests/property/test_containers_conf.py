"""registries.conf: any text in, entries or our own error out; any reference leads to places or our own error."""

import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import FreshnessError, InvalidRegistriesConf
from snakemake_apptainer_freshness.registry import containers_conf, proxies
from snakemake_apptainer_freshness.registry.containers_conf import RegistriesConf
from snakemake_apptainer_freshness.registry.urls import Origin

NAME = st.sampled_from(
    ["quay.io", "quay.io/team", "*.io", "*", "", "mirror.test:5000", "mirror.test/a/", "/", "quay.io/team/tool", "*."]
) | st.text(max_size=10)
MIRROR = st.dictionaries(
    st.sampled_from(["location", "insecure", "pull-from-mirror"]),
    NAME | st.booleans() | st.sampled_from(["all", "digest-only", "tag-only"]),
    max_size=3,
)
REGISTRY = st.fixed_dictionaries(
    {},
    optional={
        "prefix": NAME,
        "location": NAME,
        "insecure": st.booleans(),
        "blocked": st.booleans(),
        "mirror-by-digest-only": st.booleans(),
        "mirror": st.lists(MIRROR, max_size=3),
        "other": st.integers(),
    },
)
FILE = st.fixed_dictionaries({}, optional={"registry": st.lists(REGISTRY, max_size=3)}).map(tomli_w.dumps)
REFERENCE = st.sampled_from(
    [("quay.io", "team/tool"), ("a.io", "x"), ("mirror.test:5000", "a/b"), ("docker.io", "library/x")]
)


@given(st.text(max_size=300) | FILE, REFERENCE, st.booleans())
@example("a = " + "[" * 5000, ("quay.io", "x"), False)
@example("[registries.search]\nregistries = 5\n[registries.block]\nregistries = ['quay.io']", ("quay.io", "x"), True)
def test_any_text_leads_to_places_or_to_an_error(text, reference, by_digest):
    try:
        conf = RegistriesConf(registries=containers_conf.parse(text, "a file"))
    except InvalidRegistriesConf as error:
        assert "a file" in str(error)  # noqa: PT017  no error is as good
        return
    host, repository = reference
    try:
        places = conf.places(host, repository, by_digest=by_digest)
        places += (conf.download_place(host, repository),)
    except FreshnessError:
        return
    assert len(places) >= 2
    assert all(place.host and place.repository for place in places)


@given(
    st.text(max_size=60), st.text(max_size=60), st.sampled_from(["quay.io", "10.0.0.1", "::1", "localhost", "fe80::1"])
)
def test_any_proxy_setting_is_a_proxy_none_or_an_error(proxy, exceptions, host):
    origin = Origin(scheme="https", host=host, port=443)
    try:
        found = proxies.find(origin, {"HTTPS_PROXY": proxy, "NO_PROXY": exceptions})
    except FreshnessError as error:
        assert "HTTPS_PROXY" in str(error)  # noqa: PT017  no error is as good
        return
    assert found is None or found.origin.scheme in ("http", "https")
