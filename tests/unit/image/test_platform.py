import os
from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.platform import Platform


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("linux/amd64", ("linux", "amd64", "")),
        ("linux/386", ("linux", "386", "")),
        ("linux/arm64/v8", ("linux", "arm64", "v8")),
        ("unknown/unknown", ("unknown", "unknown", "")),
    ],
)
def test_a_platform_is_os_architecture_and_perhaps_a_variant(text, parts):
    platform = Platform.parse(text)
    assert (platform.os, platform.architecture, platform.variant) == parts
    assert str(platform) == text


@pytest.mark.parametrize(
    "text",
    ["", "amd64", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v1/x", "Linux/amd64", "linux/AMD64",
     "linux/amd64\n", " linux/amd64", "linux/amd 64", "linux/../etc", "l\u0456nux/amd64"],
)  # fmt: skip
def test_nothing_else_is_a_platform(text):
    with pytest.raises(InvalidReference, match="is not a platform") as caught:
        Platform.parse(text)
    assert "linux/amd64" in caught.value.hint


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [
        ("x86_64", "amd64"),
        ("aarch64", "arm64"),
        ("i686", "386"),
        ("armv7l", "arm"),
        ("loongarch64", "loongarch64"),
    ],
)
def test_this_machine_has_the_name_that_go_gives_it(monkeypatch, machine, architecture):
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    assert str(Platform.here()) == f"linux/{architecture}"


@pytest.mark.parametrize(
    ("image", "wanted", "serves"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm/v7", False),
    ],
)
def test_os_and_architecture_must_be_equal_and_the_variant_only_where_one_is_asked_for(image, wanted, serves):
    assert Platform.parse(image).serves(Platform.parse(wanted)) is serves
