"""Attacks on a policy that wants images to be signed; each says whether its image passes as signed.

The site wants what lies in :data:`REPOSITORY` to be signed. The attacker can push to it, or to what stands in its
place, and gives the workflow and its lock; he has keys of his own, and signatures that the real signer made of others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.actions.policies import Policies
from snakemake_apptainer_freshness.actions.sif_signatures import SifFile, check_files
from snakemake_apptainer_freshness.actions.signatures import Held, SignatureCheck
from snakemake_apptainer_freshness.apptainer.signers import NotSignedInside
from snakemake_apptainer_freshness.apptainer.signers import parse as parse_signers
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.signature import Form, Signature
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.policy import parse_policy
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.settings import Options, PinKind
from snakemake_apptainer_freshness.store import kept_signatures as remembered
from snakemake_apptainer_freshness.store import state
from tests.support import signatures as made
from tests.support.attacks import REPOSITORY
from tests.support.lab import Lab, manifest
from tests.support.replies import Reply
from tests.support.signatures import IDENTITY, ISSUER, Key, Sigstore
from tests.support.simulator import Simulator

HOST = "registry.example"
NAME = f"{HOST}/{REPOSITORY}"
HERE = Platform.here()
BY_KEY = '{key = "cosign.pub"}'
BY_IDENTITY = f'{{identity = "{IDENTITY}", issuer = "{ISSUER}"}}'
SMALL = {"referrer_pages": 3, "signatures": 4, "signature_size": 16384}
"""What stands in for the real limits in these attacks."""
LAB_KEY = "A" * 40
PROVENANCE = "https://slsa.dev/provenance/v1"


@dataclass(kw_only=True)
class Site:
    """The site with its signers, and the registry that an image comes from."""

    lab: Lab
    registry: Simulator
    key: Key = field(default_factory=Key)
    sigstore: Sigstore = field(default_factory=Sigstore)

    @property
    def reference(self) -> str:
        return f"docker://{HOST}:{self.registry.port}/{REPOSITORY}:1"

    @property
    def name(self) -> str:
        return f"{HOST}:{self.registry.port}/{REPOSITORY}"

    @property
    def folder(self) -> Path:
        return self.lab.home / "site"

    def image(self, number: int = 0) -> str:
        """Push an image without a signature; gives its digest."""
        return self.registry.publish(REPOSITORY, "1", manifest(number))

    def put(self, digest: str, *signatures: Signature, at: Simulator | None = None) -> None:
        """Put `signatures` beside the image `digest`."""
        place = at or self.registry
        image = {"mediaType": made.OCI_MANIFEST, "digest": digest, "size": 1}
        bundles = [made.bundle_manifest(one, image) for one in signatures if one.form is Form.BUNDLE]
        for one in signatures:
            blob = made.descriptor(one.content, "")["digest"]
            place.answer(f"/v2/{REPOSITORY}/blobs/{blob}", Reply(body=one.content))
        for document in bundles:
            place.publish(REPOSITORY, None, document)
        place.answer(f"/v2/{REPOSITORY}/referrers/{digest}", Reply(body=made.referrers(*bundles)))
        simple = [one for one in signatures if one.form is Form.SIMPLE]
        if simple:
            place.publish(REPOSITORY, f"{digest.replace(':', '-')}.sig", made.simple_manifest(simple))

    def check(
        self,
        digest: str,
        *,
        signer: str = BY_KEY,
        kind: PinKind = PinKind.INDEX,
        platforms: dict[Platform, Digest] | None = None,
        reference: str = "",
        online: bool = True,
    ) -> SignatureCheck:
        """What the site's policy says of the image `digest`."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "cosign.pub").write_bytes(self.key.pem)
        (self.folder / "root.json").write_bytes(self.sigstore.trusted_root)
        root = 'trusted_root = "root.json"' if "identity" in signer else ""
        policy = self.folder / "policy.toml"
        policy.write_text(
            f'[policy.signed_by]\n{root}\n[policy.signed_by.images]\n"{HOST}:*/*" = {signer}\n"{HOST}" = {signer}\n'
        )
        entry = Entry(
            reference=parse(reference or self.reference),
            digest=Digest.parse(digest),
            media_type=made.OCI_MANIFEST,
            platforms=platforms or {},
        )
        held = Held(kind=kind, platform=HERE)
        with Resolver(environ=self.lab.environ, limits=self.lab.limits) as resolver:
            ask = (lambda: resolver) if online else None
            return Policies.of(Options(), [policy]).of_signatures({entry.reference.text: entry}, held, ask=ask)

    def passes(self, digest: str, **how: Any) -> bool:
        """Whether the image `digest` passes as signed."""
        return not self.check(digest, **how).violations


def site(lab: Lab) -> Site:
    return Site(lab=lab, registry=lab.registry(HOST))


def signature_of_another_digest(lab: Lab) -> bool:
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    there.put(evil, there.key.simple(signed, there.name), there.key.bundle(signed))
    return there.passes(evil)


def bundle_of_another_digest_by_the_identity(lab: Lab) -> bool:
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    there.put(evil, there.sigstore.bundle(signed))
    return there.passes(evil, signer=BY_IDENTITY)


def payload_that_names_another_repository(lab: Lab) -> bool:
    """The same bytes were signed as something else, such as an outdated tool in the signer's archive."""
    there = site(lab)
    digest = there.image()
    there.put(digest, there.key.simple(digest, f"{HOST}/team/archive"))
    return there.passes(digest)


def signature_by_another_key(lab: Lab) -> bool:
    there = site(lab)
    digest = there.image()
    there.put(digest, Key().simple(digest, there.name), Key().bundle(digest))
    return there.passes(digest)


def payload_that_was_changed_after_it_was_signed(lab: Lab) -> bool:
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    good = there.key.simple(signed, there.name)
    content = made.payload(evil, there.name)
    there.put(evil, Signature(form=Form.SIMPLE, content=content, signature=good.signature))
    return there.passes(evil)


def statement_that_was_changed_after_it_was_signed(lab: Lab) -> bool:
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    document = json.loads(there.sigstore.bundle(signed).content)
    document["dsseEnvelope"]["payload"] = made.b64(made.statement(evil))
    there.put(evil, Signature(form=Form.BUNDLE, content=json.dumps(document).encode()))
    return there.passes(evil, signer=BY_IDENTITY)


def certificate_of_another_identity(lab: Lab) -> bool:
    there = site(lab)
    digest = there.image()
    there.put(digest, there.sigstore.bundle(digest, identity="eve@lab.example"))
    return there.passes(digest, signer=BY_IDENTITY)


def same_identity_at_another_issuer(lab: Lab) -> bool:
    there = site(lab)
    digest = there.image()
    there.put(digest, there.sigstore.bundle(digest, issuer="https://login.evil.example"))
    return there.passes(digest, signer=BY_IDENTITY)


def certificate_that_was_over_when_it_signed(lab: Lab) -> bool:
    """A key that was stolen once its short life was over."""
    there = site(lab)
    digest = there.image()
    there.put(digest, there.sigstore.bundle(digest, late=timedelta(hours=1)))
    return there.passes(digest, signer=BY_IDENTITY)


def certificate_of_another_sigstore(lab: Lab) -> bool:
    there = site(lab)
    digest = there.image()
    there.put(digest, Sigstore().bundle(digest))
    return there.passes(digest, signer=BY_IDENTITY)


def attestation_in_place_of_a_signature(lab: Lab) -> bool:
    """The signer said how it was built, or that a scan has found something bad; he did not say that it may run."""
    there = site(lab)
    digest = there.image()
    there.put(digest, there.key.bundle(digest, predicate=PROVENANCE))
    return there.passes(digest)


def mirror_that_brings_its_own_signature(lab: Lab) -> bool:
    there = site(lab)
    mirror = with_mirror(there)
    digest = mirror.publish(REPOSITORY, "1", manifest(9))
    there.put(digest, Key().simple(digest, there.name), at=mirror)
    return there.passes(digest)


def mirror_that_has_an_image_which_nobody_signed(lab: Lab) -> bool:
    there = site(lab)
    mirror = with_mirror(there)
    signed = there.image(1)
    there.put(signed, there.key.simple(signed, there.name))
    return there.passes(mirror.publish(REPOSITORY, "1", manifest(9)))


def with_mirror(there: Site) -> Simulator:
    """A mirror, which this user's registries.conf asks first."""
    mirror = there.lab.registry("innocent.example")
    path = there.lab.home / ".config/containers/registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'[[registry]]\nlocation = "{HOST}:{there.registry.port}"\n'
        f'[[registry.mirror]]\nlocation = "innocent.example:{mirror.port}"\n'
    )
    return mirror


def index_that_is_signed_and_a_lock_that_names_another_platforms_manifest(lab: Lab) -> bool:
    """The lock of a pull request says that the signed index has the attacker's manifest."""
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    there.put(signed, there.key.simple(signed, there.name))
    return there.passes(signed, kind=PinKind.PLATFORM, platforms={HERE: Digest.parse(evil)})


def endless_list_of_what_refers_to_an_image(lab: Lab) -> bool:
    """A list that has no end, of signatures that were never made: success is that very many are asked for."""
    there = site(lab)
    digest = there.image()
    bundles = [Key().bundle(digest) for _ in range(6)]
    there.put(digest, *bundles)
    path = f"/v2/{REPOSITORY}/referrers/{digest}"
    image = {"mediaType": made.OCI_MANIFEST, "digest": digest, "size": 1}
    listed = made.referrers(*(made.bundle_manifest(one, image) for one in bundles))
    endless = Reply(body=listed, headers=[("Link", f'<{path}?next=1>; rel="next"')])
    there.registry.answer(path, endless)
    there.check(digest)
    return len(there.registry.asked(path)) > 3 or len(there.registry.asked(f"/v2/{REPOSITORY}/blobs/")) > 4


def enormous_signature(lab: Lab) -> bool:
    """Success is that it is downloaded."""
    there = site(lab)
    digest = there.image()
    huge = Signature(form=Form.BUNDLE, content=b" " * 100_000)
    there.put(digest, huge)
    there.check(digest)
    return bool(there.registry.asked(f"/v2/{REPOSITORY}/blobs/"))


def signature_that_is_longer_than_it_says(lab: Lab) -> bool:
    """Success is that all of it is kept, and so passes."""
    there = site(lab)
    digest = there.image()
    good = there.key.bundle(digest)
    there.put(digest, good)
    blob = made.descriptor(good.content, "")["digest"]
    there.registry.answer(f"/v2/{REPOSITORY}/blobs/{blob}", Reply(body=good.content + b" " * 4096))
    return there.passes(digest)


def other_spelling_of_the_host(lab: Lab) -> bool:
    """The same registry under a name that the site's pattern does not spell: no demand, no signature."""
    there = site(lab)
    digest = there.image()
    return there.passes(digest, reference=f"docker://{HOST.upper()}:443/{REPOSITORY}:1", online=False)


def note_of_a_signature_in_a_folder_that_others_can_write(lab: Lab) -> bool:
    """Without a network, and with a file in the state folder that another user wrote."""
    there = site(lab)
    digest = there.image()
    good = there.key.bundle(digest)
    path = state.folder() / "signatures" / digest[7:9] / f"sha256-{digest[7:]}" / f"{good.sha256}.json"
    state.write(path, good.dumps())
    path.chmod(0o666)
    return there.passes(digest, online=False)


def remembered_signature_of_another_digest(lab: Lab) -> bool:
    """A file that lies where this image's signatures lie, and is another image's."""
    there = site(lab)
    signed, evil = there.image(1), there.image(2)
    good = there.key.bundle(signed)
    path = state.folder() / "signatures" / evil[7:9] / f"sha256-{evil[7:]}" / f"{good.sha256}.json"
    state.write(path, good.dumps())
    return there.passes(evil, online=False)


def signature_inside_that_the_program_calls_bad(lab: Lab) -> bool:
    """The file system of a SIF file was changed, and the program ended well all the same."""
    bad = {"Partition": "FS", "Fingerprint": LAB_KEY, "KeyLocal": True, "KeyCheck": True, "DataCheck": False}
    try:
        return LAB_KEY in parse_signers(json.dumps({"SignerKeys": [{"Signer": bad}]}))
    except NotSignedInside:
        return False


def file_that_another_key_of_the_keyring_signed_inside(lab: Lab) -> bool:
    sif = Digest(algorithm="sha256", hex="c" * 64)
    remembered.keep_inside(sif.hex, ["B" * 40])
    text = "library://lab/tools/tool:1"
    pin = Pin.held_to(pinned=parse(f"library://lab/tools/tool:sha256.{sif.hex}"), reference=parse(text), digest=sif)
    file = SifFile(pin=pin, fact=DiskFact(state=DiskState.VERIFIED, path="/images/tool.simg"))
    rules = {"signed_by": {"images": {"library": {"fingerprint": LAB_KEY}}}}
    return not check_files([parse_policy(rules, source="site")], {text: file}).violations


def remembered_signature_by_a_key_that_was_replaced(lab: Lab) -> bool:
    """It was good last year; the site has another key now."""
    there = site(lab)
    digest = there.image()
    there.put(digest, there.key.bundle(digest))
    if not there.passes(digest):
        return False
    there.key = Key()
    return there.passes(digest, online=False)
