"""Reading and editing ``cloudmesh.yaml``, in the published template's shape."""

from __future__ import annotations

import multiprocessing
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage import registry
from cloudmesh.storage.config import Configuration
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.presets import PRESETS
from cloudmesh.storage.secrecy import is_secret, without_secrets

MARKER = "marker-Xq7-secret"

TEMPLATE = f"""\
# my own notes
cloudmesh:
  version: 4.3.2
  profile:
    user: TBD
  default:
    cloud: chameleon
  storage:
    storage_a:
      cm: {{active: false, heading: Storage A, host: localhost, label: local, kind: local, service: storage}}
      default:
        directory: ~/a   # where it lies
      credentials:
        name: TBD
        key: ~/.ssh/id_rsa.pub
    box:
      cm: {{active: false, heading: Box, host: box.com, label: box, kind: box, service: storage}}
      default: {{directory: /}}
      credentials: {{config_path: '~/{{nobody.evaluates.this}}'}}
    aws:
      cm: {{active: false, heading: homedir, host: aws.com, label: home-dir, kind: awss3, service: storage}}
      default: {{directory: TBD}}
      credentials:
        bucket: 2024_01
        access_key_id: 0123
        secret_access_key: {MARKER}  # to be sealed
        region: us-east-1
    gdrive:
      cm: {{active: false, heading: GDrive, label: gdrive, kind: gdrive, service: storage}}
      default: {{directory: TBD}}
      credentials:
        client_id: TBD
        client_secret: {MARKER}
        project_id: TBD
        auth_uri: https://accounts.google.com/o/oauth2/auth
        token_uri: https://oauth2.googleapis.com/token
        redirect_uris:
          - urn:ietf:wg:oauth:2.0:oob
          - http://localhost
    azure:
      cm: {{active: false, heading: AWS, label: azure_blob, kind: azureblob, service: storage}}
      default: {{group: cloudmesh, location: TBD}}
      credentials: {{account_name: TBD, account_key: {MARKER}, container: TBD, AZURE_SECRET_KEY: {MARKER}}}
    google:
      cm: {{active: false, heading: GCP, label: gcp, kind: google, service: storage}}
      default: {{directory: cloudmesh_gcp, Location_type: Region}}
      credentials:
        type: service_account
        project_id: p
        private_key_id: xxxxxxxx
        private_key: "-----BEGIN {MARKER}\\n"
        client_id: x
    oracle:
      cm: {{active: false, heading: Oracle, label: oracle, kind: oracle, service: storage}}
      default: {{directory: TBD, bucket: b}}
      credentials: {{user: u, fingerprint: f, key_file: ~/.oci/key.pem, pass_phrase: {MARKER}, tenancy: t, region: r}}
"""


@pytest.fixture
def template(home: Path) -> Path:
    path = home / "cloudmesh.yaml"
    path.write_text(TEMPLATE)
    return path


def test_without_a_file_there_is_the_local_service(home: Path) -> None:
    configuration = Configuration()
    assert [service.name for service in configuration.services()] == ["local"]
    settings = configuration.settings("local")
    assert (settings.kind, settings.root) == ("local", str(home / "local"))
    assert not (home / "cloudmesh.yaml").exists()


def test_every_kind_of_the_template_loads_and_lists(template: Path) -> None:
    services = {service.name: service for service in Configuration().services()}
    assert [service.kind for service in services.values()] == [
        "local", "box", "awss3", "gdrive", "azureblob", "google", "oracle", "local"
    ]  # fmt: skip
    assert services["aws"].root == ""
    assert services["google"].root == "cloudmesh_gcp"
    assert not services["aws"].active
    assert MARKER not in repr(services)


def test_values_stay_as_typed(template: Path) -> None:
    found = Configuration().settings("aws")
    assert found.credentials["bucket"] == "2024_01"
    assert found.credentials["access_key_id"] == "0123"
    assert Configuration().values("box")["credentials"]["config_path"] == "~/{nobody.evaluates.this}"
    assert MARKER not in repr(found)


def test_home_is_expanded_for_local_directories_only(template: Path) -> None:
    assert Configuration().settings("storage_a").root == str(Path.home() / "a")
    template.write_text(
        TEMPLATE.replace(
            "directory: TBD}\n      credentials:\n        bucket", "directory: ~/x}\n      credentials:\n        bucket"
        )
    )
    assert Configuration().settings("aws").root == "~/x"


@pytest.mark.parametrize("name", ["box", "gdrive", "azure", "google", "oracle"])
def test_kind_without_provider_is_one_sentence(template: Path, name: str) -> None:
    with pytest.raises(ConfigError) as failure:
        Configuration().settings(name)
    assert name in str(failure.value)
    assert "kinds: awss3, local" in str(failure.value)


def test_missing_key_names_the_command(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text("cloudmesh: {storage: {nas: {cm: {kind: webdav}, credentials: {url: TBD}}}}")
    with pytest.raises(ConfigError, match=r"url is not set .cms storage config edit nas --set=url=VALUE"):
        Configuration().settings("nas")


def test_unknown_service_names_those_there_are(template: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such service .services: storage_a, box"):
        Configuration().settings("nowhere")


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("x: {cm: {kind: local}}", "two or more"),
        ("nas: just text", "not a mapping"),
        ("nas: {cm: {kind: TBD}}", "no kind"),
        ("nas:", "not a mapping"),
    ],
)
def test_a_broken_service_does_not_hide_the_others(home: Path, service: str, problem: str) -> None:
    (home / "cloudmesh.yaml").write_text(f"cloudmesh:\n  storage:\n    {service}\n")
    broken, local = Configuration().services()
    assert problem in broken.problem
    assert local.name == "local"
    with pytest.raises(ConfigError, match=problem):
        Configuration().settings(broken.name)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"cloudmesh:\n  a: b: {MARKER}\n", 2),
        (f"cloudmesh:\n  password: *{MARKER}\n", 2),
        (f"cloudmesh:\n  password: !{MARKER} x\n", 2),
        (f"cloudmesh:\n\tpassword: {MARKER}\n", 2),
        (f'cloudmesh:\n  password: "{MARKER}\n', 2),
        (f"cloudmesh:\n  password: {MARKER}\x07\n", 2),
        (f"cloudmesh:\n  - {MARKER}\n x\n", 3),
    ],
)
def test_malformed_yaml_names_the_line_and_shows_nothing(home: Path, text: str, line: int) -> None:
    path = home / "cloudmesh.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as failure:
        Configuration().services()
    shown = str(failure.value)
    assert shown.startswith(f"{path}, line {line}") or shown.startswith(f"{path}, line {line + 1}")
    assert MARKER not in shown
    assert "\n" not in shown
    with pytest.raises(ConfigError):
        Configuration().edit(lambda section: section.clear())
    assert path.read_text() == text


@pytest.mark.parametrize("data", [b"cloudmesh:\n  a: \xff\n", b"- a\n", b"text", b"a: [" * 2000])
def test_a_file_that_is_no_configuration(home: Path, data: bytes) -> None:
    (home / "cloudmesh.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"cloudmesh\.yaml"):
        Configuration().services()


def test_traceback_of_a_malformed_file_does_not_hold_it(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text(f"cloudmesh:\n  password: {MARKER}: x\n")
    code = "from cloudmesh.storage.config import Configuration\nConfiguration().services()"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError" in out.stderr
    assert MARKER not in out.stderr


def test_secret_in_the_file_works_with_one_warning(template: Path) -> None:
    code = (
        "from cloudmesh.storage.config import Configuration\n"
        "c = Configuration()\n"
        "print(c.settings('aws').credentials['secret_access_key'])\n"
        "c.settings('aws')\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == MARKER
    assert out.stderr.count("cms storage config seal aws") == 1
    assert MARKER not in out.stderr


def test_default_service_is_the_first_of_variable_configuration_local(template: Path, home: Path) -> None:
    assert Configuration().default_service() == "local"
    template.write_text(TEMPLATE.replace("cloud: chameleon", "storage: box"))
    assert Configuration().default_service() == "box"
    code = "from cloudmesh.common.variables import Variables\nv = Variables()\nv['storage'] = 'aws'\nv['x'] = 'yes: no'"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    before = (home / "variables.dat").read_bytes()
    assert Configuration().default_service() == "aws"
    assert (home / "variables.dat").read_bytes() == before
    (home / "variables.dat").write_bytes(b"\xff\x00sto")
    assert Configuration().default_service() == "box"


def test_connections_are_limited_by_the_configuration(home: Path) -> None:
    default = "{directory: /x, parallel: 3, read_timeout: 7.5, extra: e}"
    text = f"cloudmesh: {{storage: {{nas: {{cm: {{kind: local}}, default: {default}}}}}}}"
    (home / "cloudmesh.yaml").write_text(text)
    found = Configuration().settings("nas")
    assert (found.parallel, found.timeouts.read, dict(found.options)) == (3, 7.5, {"extra": "e"})
    for wrong in ("0", "-1", "many", "nan", "inf"):
        (home / "cloudmesh.yaml").write_text(text.replace("parallel: 3", f"parallel: {wrong}"))
        with pytest.raises(ConfigError, match="parallel must be a number"):
            Configuration().settings("nas")


def test_editing_keeps_comments_mode_links_and_the_version_before(template: Path, home: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    template.rename(real)
    template.symlink_to(real)
    real.chmod(0o664)
    Configuration().edit(lambda section: section["aws"]["credentials"].update(region="eu-central-1"))
    text = real.read_text()
    assert template.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o664
    for comment in ("# my own notes", "# where it lies", "# to be sealed"):
        assert comment in text
    assert "bucket: 2024_01" in text
    assert "access_key_id: 0123" in text
    assert Configuration().settings("aws").credentials["region"] == "eu-central-1"
    assert real.with_name("dotfiles.yaml.bak").read_text() == TEMPLATE


def _edit_many(folder: str, name: str) -> None:
    for number in range(5):
        Configuration(Path(folder)).edit(
            lambda section, number=number: section.update({f"{name}-{number}": {"cm": {"kind": "local"}}})  # type: ignore[misc]
        )


def test_many_editors_lose_nothing(template: Path, home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    editors = [context.Process(target=_edit_many, args=(str(home), f"service{n}")) for n in range(3)]
    for editor in editors:
        editor.start()
    for editor in editors:
        editor.join()
        assert editor.exitcode == 0
    names = {service.name for service in Configuration().services()}
    assert {f"service{n}-{m}" for n in range(3) for m in range(5)} <= names


VALUE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30) | st.sampled_from(
    [
        "~",
        "null",
        "yes",
        "0123",
        "1e5",
        "2024-01-01",
        "a: b",
        "# c",
        "'",
        '"',
        "{x}",
        "[",
        "*a",
        "&a",
        "!t",
        "|",
        "- ",
        "true",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUE)
def test_every_value_comes_back(home: Path, value: str) -> None:
    Configuration().edit(lambda section: section.update(nas={"cm": {"kind": "local"}, "default": {"note": value}}))
    assert Configuration().values("nas")["default"]["note"] == value


def test_duplicate_key_can_be_read_but_not_edited_away(home: Path) -> None:
    path = home / "cloudmesh.yaml"
    path.write_text("cloudmesh:\n  storage:\n    nas: {cm: {kind: local}}\n    nas: {cm: {kind: webdav}}\n")
    assert Configuration().service("nas").kind == "webdav"
    with pytest.raises(ConfigError, match="line 4"):
        Configuration().edit(lambda section: section.update(x={}))


def test_what_is_secret() -> None:
    secrets = "password secret_access_key client_secret account_key AZURE_SECRET_KEY pass_phrase token key api_key"
    public = (
        "access_key_id private_key_id key_file token_uri project_id client_x509_cert_url region username known_hosts"
    )
    assert [key for key in secrets.split() if not is_secret(key)] == []
    assert [key for key in public.split() if is_secret(key)] == []
    assert is_secret("access_key_id", frozenset({"access_key_id"}))
    assert without_secrets("https://user:pw@host/p?sig=abc&x=1#f") == "https://***@host/p?sig=***&x=***#f"


def test_every_kind_loads_and_tells_what_it_needs() -> None:
    for kind in registry.kinds():
        provider = registry.provider_class(kind)
        assert provider.kind == kind
        assert provider.required | provider.secrets <= set(provider.keys)
    with pytest.raises(ConfigError, match="no provider for kind 'zzz'"):
        registry.provider_class("zzz", "nas")


def test_others_add_a_kind_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "theirs-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[cloudmesh.storage]\n"
        "theirs = cloudmesh.storage.providers.local:LocalStorage\n"
        "missing = theirs.storage:Storage\n"
        "other = cloudmesh.storage.config:Configuration\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"theirs", "local"} <= set(registry.kinds())
    assert registry.is_known("theirs")
    assert registry.provider_class("theirs") is registry.provider_class("local")
    for kind, words in (("missing", "does not load"), ("other", "is not a StorageABC")):
        with pytest.raises(ConfigError, match=words):
            registry.provider_class(kind)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name: str) -> None:
    preset = PRESETS[name]
    parameters = dict.fromkeys(preset.parameters, "eu-1") | (
        {"endpoint_url": "https://s3.example.org"} if "endpoint_url" in preset.parameters else {}
    )
    found = preset.settings(parameters)
    assert found["region"]
    assert found["addressing_style"] in ("path", "virtual")
    assert name == "aws" or found["endpoint_url"].startswith("https://")
    assert "{" not in found.get("endpoint_url", "")
    assert set(found) <= set(registry.provider_class("awss3").keys)


def test_starting_up_needs_no_sdk_and_no_editor(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    code = (
        "import sys\nfrom cloudmesh.storage.config import Configuration\nConfiguration().services()\n"
        "print([m for m in ('ruamel', 'pyrage', 'boto3', 'filelock', 'rich', 'keyring') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
