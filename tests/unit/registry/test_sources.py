"""``docker://`` and ``oras://`` against an honest registry."""

import json
import subprocess
import sys

import pytest

from snakemake_apptainer_freshness.errors import NotFound, Unauthorized, Unpullable
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Entry, platform_texts
from tests.support.attacks import MANIFESTS, REPOSITORY, honest
from tests.support.digests import sha256
from tests.support.lab import PASSWORD, manifest, sif_manifest
from tests.support.pins import lock_entry
from tests.support.replies import Reply
from tests.support.simulator import Simulator

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def index(*numbers):
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256(manifest(number)),
            "size": len(manifest(number)),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for number, architecture in zip(numbers, ("amd64", "arm64"), strict=False)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def methods(registry):
    return [(request.method, request.path.removeprefix(MANIFESTS)) for request in registry.requests]


def test_a_tag_is_pinned_to_what_was_hashed(lab):
    registry, reference = honest(lab)
    digest = sha256(manifest())
    entry = lab.ask(reference)
    assert entry == lock_entry(
        reference=reference,
        digest=digest,
        media_type="application/vnd.oci.image.manifest.v1+json",
    )
    assert methods(registry) == [("GET", "1")]


def test_an_index_is_pinned_with_its_platforms(lab):
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "1", index(1, 2), OCI_INDEX)
    entry = lab.ask(reference)
    assert str(entry.digest) == sha256(index(1, 2))
    assert platform_texts(entry.platforms) == {"linux/amd64": sha256(manifest(1)), "linux/arm64": sha256(manifest(2))}


def test_a_registry_without_head_is_asked_by_get(lab):
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    registry.answer(MANIFESTS, Reply(status=405), method="HEAD")
    assert lab.check(entry).state is RemoteState.CURRENT


def test_a_registry_without_the_digest_header_is_asked_by_get(lab):
    registry, reference = honest(lab)
    headers = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")]
    registry.answer(MANIFESTS, lambda _: Reply(headers=headers, body=manifest()))
    entry = lab.ask(reference)
    assert str(entry.digest) == sha256(manifest())
    assert lab.check(entry).state is RemoteState.CURRENT
    assert [method for method, _ in methods(registry)] == ["GET", "HEAD", "GET"]


def test_a_digest_reference_is_fetched_by_its_digest(lab):
    registry, _ = honest(lab)
    reference = f"docker://{registry.host}/{REPOSITORY}@{sha256(manifest())}"
    assert lab.ask(reference).pinned.text == reference
    assert [method for method, _ in methods(registry)] == ["GET"]


def test_a_tag_beside_a_digest_is_for_people(lab):
    registry, reference = honest(lab)
    assert str(lab.ask(f"{reference}@{sha256(manifest())}").digest) == sha256(manifest())
    assert [method for method, _ in methods(registry)] == ["GET"]


def test_a_missing_tag_and_a_missing_repository_are_told_apart(lab):
    registry, reference = honest(lab)
    missing_tag = lab.ask(reference + "0")
    missing_repository = lab.ask(f"docker://{registry.host}/team/other:1")
    assert isinstance(missing_tag, NotFound)
    assert isinstance(missing_repository, NotFound)
    assert "no tag" in missing_tag.message
    assert "tags like it: 1" in missing_tag.hint
    assert "no repository" in missing_repository.message


def test_a_missing_digest_says_so(lab):
    registry, _ = honest(lab)
    answer = lab.ask(f"docker://{registry.host}/{REPOSITORY}@sha256:{5:064x}")
    assert isinstance(answer, NotFound)
    assert "digest" in answer.message


def test_an_artifact_is_unpullable(lab):
    registry, reference = honest(lab)
    registry.publish(
        REPOSITORY,
        "1",
        manifest(config={"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{0:064x}", "size": 2}),
    )
    assert isinstance(lab.ask(reference), Unpullable)


def test_schema_1_is_unpullable(lab):
    registry, reference = honest(lab)
    body = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []}).encode()
    registry.publish(REPOSITORY, "1", body, "application/vnd.docker.distribution.manifest.v1+json")
    answer = lab.ask(reference)
    assert isinstance(answer, Unpullable)
    assert "schema 1" in answer.message


def test_oras_is_pinned_by_its_manifest_and_keeps_the_layer(lab):
    registry, _ = honest(lab)
    registry.publish(REPOSITORY, "sif", sif_manifest())
    entry = lab.ask(f"oras://{registry.host}/{REPOSITORY}:sif")
    assert entry.pinned.text == f"oras://{registry.host}/{REPOSITORY}@{sha256(sif_manifest())}"
    assert entry.hints == {"layer": f"sha256:{7:064x}"}


def test_oras_takes_this_platform_s_child_of_an_index(lab):
    registry, _ = honest(lab)
    child = sif_manifest()
    registry.publish(REPOSITORY, None, child)
    here = Platform.here()
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256(child),
            "size": len(child),
            "platform": {"os": here.os, "architecture": here.architecture},
        }
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    registry.publish(REPOSITORY, "sif", body, OCI_INDEX)
    assert lab.ask(f"oras://{registry.host}/{REPOSITORY}:sif").hints == {"layer": f"sha256:{7:064x}"}


def test_docker_and_oras_send_each_other_s_images_away(lab):
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "sif", sif_manifest())
    wrong_docker = lab.ask(f"docker://{registry.host}/{REPOSITORY}:sif")
    wrong_oras = lab.ask(reference.replace("docker:", "oras:"))
    assert "write oras://" in wrong_docker.message
    assert "write docker://" in wrong_oras.message


@pytest.fixture
def pinned(lab):
    registry, reference = honest(lab)
    entry = lab.ask(reference)
    registry.clear()
    return registry, entry


def test_a_tag_that_has_not_moved_costs_one_head(lab, pinned):
    registry, entry = pinned
    fact = lab.check(entry)
    assert (fact.state, fact.digest) == (RemoteState.CURRENT, entry.digest)
    assert methods(registry) == [("HEAD", "1")]


def test_a_tag_that_moved_is_confirmed_and_its_platforms_are_told(lab, pinned):
    registry, entry = pinned
    moved = registry.publish(REPOSITORY, "1", index(1, 2), OCI_INDEX)
    fact = lab.check(entry)
    assert (fact.state, str(fact.digest)) == (RemoteState.MOVED, moved)
    assert platform_texts(fact.platforms)["linux/arm64"] == sha256(manifest(2))


def test_a_tag_that_is_gone_leaves_the_pin_untagged(lab, pinned):
    registry, entry = pinned
    registry.unpublish(REPOSITORY, "1")
    assert lab.check(entry).state is RemoteState.UNTAGGED


def test_a_pin_that_is_no_longer_served_is_lost(lab, pinned):
    registry, entry = pinned
    registry.unpublish(REPOSITORY, "1")
    registry.unpublish(REPOSITORY, str(entry.digest))
    assert lab.check(entry).state is RemoteState.LOST


def test_a_pin_is_lost_although_its_tag_points_elsewhere_now(lab, pinned):
    registry, entry = pinned
    moved = registry.publish(REPOSITORY, "1", manifest(9))
    registry.unpublish(REPOSITORY, str(entry.digest))
    fact = lab.check(entry)
    assert (fact.state, str(fact.digest)) == (RemoteState.LOST, moved)


def test_a_digest_reference_is_current_while_it_is_served(lab):
    registry, _ = honest(lab)
    entry = lab.ask(f"docker://{registry.host}/{REPOSITORY}@{sha256(manifest())}")
    assert lab.check(entry).state is RemoteState.CURRENT
    registry.unpublish(REPOSITORY, str(entry.digest))
    assert lab.check(entry).state is RemoteState.LOST


def test_a_registry_that_lies_about_a_move_is_unreachable_and_named(lab, pinned):
    registry, entry = pinned
    lie = f"sha256:{6:064x}"
    registry.answer(MANIFESTS + "1", Reply(headers=[("Docker-Content-Digest", lie)]), method="HEAD")
    registry.answer(MANIFESTS + lie, Reply(body=manifest(6)))
    fact = lab.check(entry)
    assert fact.state is RemoteState.UNREACHABLE
    assert "serves other bytes" in fact.detail


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_login_opens_the_registry(lab, auth):
    registry, reference = honest(lab, auth=auth, users={"alice": PASSWORD})
    assert isinstance(lab.ask(reference), Unauthorized)
    lab.log_in(registry.host)
    assert isinstance(lab.ask(reference), Entry)


def test_a_login_on_the_same_private_network_opens_the_registry(lab):
    realm = lab.registry("auth.test", public=False, auth="token", users={"alice": PASSWORD})
    registry, reference = honest(lab, "registry.test", public=False, auth="token", realm=realm.url + "/token")
    registry._granted = realm._granted
    lab.log_in(registry.host)
    assert isinstance(lab.ask(reference), Entry)
    assert lab.saw_secret(realm)


def test_a_foreign_token_service_opens_the_registry_where_the_user_lists_it(lab):
    realm = lab.registry("auth.example", auth="token", users={"alice": PASSWORD})
    registry, reference = honest(lab, auth="token", realm=realm.url + "/token")
    registry._granted = realm._granted
    lab.log_in(registry.host)
    answer = lab.ask(reference)
    assert "not known to belong" in answer.message
    lab.environ["APPTAINER_FRESHNESS_TOKEN_HOSTS"] = "other.example, auth.example"
    assert isinstance(lab.ask(reference), Entry)


def test_an_error_names_the_login_that_apptainer_ignores(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    path = lab.home / "elsewhere.json"
    path.write_text(json.dumps({"auths": {registry.host: {"username": "a", "password": "b"}}}), encoding="utf-8")
    lab.environ["REGISTRY_AUTH_FILE"] = str(path)
    assert "REGISTRY_AUTH_FILE, where Apptainer does not look" in lab.ask(reference).hint


def test_a_same_origin_redirect_keeps_the_login(lab):
    registry, reference = honest(lab, auth="basic", users={"alice": PASSWORD})
    lab.log_in(registry.host)
    registry.publish("moved", "1", manifest())
    away = Reply(status=307, headers=[("Location", "/v2/moved/manifests/1")])
    registry.answer(MANIFESTS + "1", lambda request: away if request.authorization else None)
    assert isinstance(lab.ask(reference), Entry)
    assert all(request.authorization for request in registry.asked("/v2/moved"))


def test_a_registry_without_tokens_costs_one_round_trip_an_image_and_no_ping(lab):
    registry, _ = honest(lab)
    for number in range(20):
        registry.publish(f"team/tool{number}", "1", manifest(number))
    texts = [f"docker://{registry.host}/team/tool{number}:1" for number in range(20)]
    entries = lab.ask_all(*texts).values()
    assert [request.method for request in registry.requests] == ["GET"] * 20
    registry.clear()
    assert {lab.check(entry).state for entry in entries} == {RemoteState.CURRENT}
    assert len(registry.requests) == 20
    assert {request.method for request in registry.requests} == {"HEAD"}


def test_a_check_imports_nothing_that_only_other_sources_and_retries_need(lab):
    with Simulator() as registry:  # by its own address: the other process is not in the lab
        registry.publish(REPOSITORY, "1", manifest())
        code = (
            "import sys\n"
            "from snakemake_apptainer_freshness.image.digest import Digest\n"
            "from snakemake_apptainer_freshness.image.reference import parse\n"
            "from snakemake_apptainer_freshness.lockfile import Entry\n"
            "from snakemake_apptainer_freshness.registry.resolver import Resolver\n"
            "reference, digest = sys.argv[1:]\n"
            "entry = Entry(reference=parse(reference), digest=Digest.parse(digest), media_type='a/b')\n"
            "with Resolver() as resolver:\n"
            "    assert [fact.state for _, fact in resolver.check([entry])] == ['current']\n"
            "rooms = 'snakemake_apptainer_freshness.registry.', 'snakemake_apptainer_freshness.image.'\n"
            "unwanted = 'web', 'library'\n"
            "found = {room + name for room in rooms for name in unwanted} & set(sys.modules)\n"
            "assert not found | ({'tenacity', 'tomllib', 'click', 'rich'} & set(sys.modules)), found\n"
        )
        digest = sha256(manifest())
        name = f"docker://{registry.host}/{REPOSITORY}"
        arguments = [sys.executable, "-c", code, f"{name}:1", digest]
        subprocess.run(arguments, env=lab.environ | {"APPTAINER_NOHTTPS": "1"}, check=True)


def test_a_registry_that_wants_tokens_is_not_asked_in_vain_twice(lab):
    registry, _ = honest(lab, auth="token")
    texts = []
    for number in range(40):
        registry.publish(f"team/tool{number}", "1", manifest(number))
        texts.append(f"docker://{registry.host}/team/tool{number}:1")
    lab.ask_all(*texts)
    assert len(registry.asked("/token")) == 40
    in_vain = [request for request in registry.asked("/v2/") if not request.authorization]
    assert len(in_vain) <= lab.limits.concurrency
