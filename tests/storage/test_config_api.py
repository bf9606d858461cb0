"""The commands ``storage config …`` and ``storage vault …``, with real services behind them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pty
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.config import Configuration
from cloudmesh.storage.config_api import ConfigApi
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    NotFound,
    Refused,
    StorageError,
    Unavailable,
    UsageError,
    VaultError,
)
from cloudmesh.storage.health import LIMIT, Health
from cloudmesh.storage.output import Output, write
from cloudmesh.storage.prompt import Prompt
from cloudmesh.storage.vault import Vault
from cloudmesh.storage.vault_api import VaultApi
from deploy.servers import Wsgidav
from tests.storage.answers import NOBODY, Answers
from tests.storage.test_config import MARKER, TEMPLATE


def api(prompt: Prompt = NOBODY) -> ConfigApi:
    return ConfigApi(Configuration(vault=Vault(prompt=prompt)), prompt)


def vault(prompt: Prompt = NOBODY) -> VaultApi:
    return VaultApi(Vault(prompt=prompt), prompt)


def text_of(home: Path) -> str:
    return "".join(file.read_text(errors="replace") for file in home.iterdir() if file.is_file())


def test_guided_add_asks_tests_and_saves_the_secret_in_the_vault(home: Path, wsgidav: Wsgidav) -> None:
    person = Answers(
        {"Kind": "webdav", "(url)": wsgidav.url, "(username)": wsgidav.username, "(password)": wsgidav.password}
    )
    row = api(person).add("nas")
    assert (row.kind, row.problem) == ("webdav", "")
    assert Configuration().settings("nas").credentials["password"] == wsgidav.password
    assert wsgidav.password not in text_of(home)
    (tested,) = api().test("nas")
    assert not tested.failed


def test_failed_test_saves_nothing_unless_the_person_says_so(home: Path, wsgidav: Wsgidav) -> None:
    given = {"Kind": "webdav", "(url)": wsgidav.url, "(username)": wsgidav.username, "(password)": MARKER}
    for person in (Answers(given), Answers(given | {"anyway": "no"})):
        with pytest.raises(StorageError) as failure:
            api(person).add("nas")
        assert MARKER not in "".join(traceback.format_exception(failure.value))
        assert not (home / "cloudmesh.yaml").exists()
        assert not (home / "vault.age").exists()
    assert api(Answers(given | {"anyway": "yes"})).add("nas").name == "nas"
    (tested,) = api().test("nas")
    assert tested.failed
    assert MARKER not in repr(tested)


def test_add_without_a_person(home: Path, wsgidav: Wsgidav, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_PASSWORD", wsgidav.password)
    arguments: dict[str, Any] = {"kind": "webdav", "set": [f"url={wsgidav.url}", f"username={wsgidav.username}"]}
    with pytest.raises(StorageError):
        api().add("nas", **arguments)
    assert not (home / "cloudmesh.yaml").exists()
    api().add("nas", **arguments, secret=["password=env:NAS_PASSWORD"])
    (tmp_path / "pw").write_text(wsgidav.password + "\n")
    api().add("nas2", **arguments, secret=[f"password=file:{tmp_path / 'pw'}"])
    api(Answers(person=False, pipe=wsgidav.password)).add("nas3", **arguments, secret=["password=-"])
    assert [row.failed for row in api().test()] == [False, False, False, False]
    with pytest.raises(AlreadyExists):
        api().add("nas", **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "webdav"}, "--set=url=VALUE"),
        ({"kind": "webdav", "set": ["url=x", f"password={MARKER}"]}, "--secret=password=env:VARIABLE"),
        ({"kind": "webdav", "set": ["url=x"], "secret": [f"password={MARKER}"]}, "KEY=env:VARIABLE"),
        ({"kind": "webdav", "set": ["url=x"], "secret": ["password=env:NOT_THERE"]}, "NOT_THERE is not set"),
        ({"kind": "webdav", "set": ["url=x"], "secret": ["password=file:/not/there"]}, "not found"),
        ({"kind": "webdav", "set": ["ulr=x"]}, "keys: "),
        ({"kind": "webdav", "set": ["nonsense"]}, "KEY=VALUE"),
        ({"kind": "wbdav"}, "kinds: "),
        ({"preset": "nobody"}, "presets: aws"),
        ({"preset": "cloudflare"}, "--set=account_id=VALUE"),
        ({"preset": "cloudflare", "set": ["account_id=evil.example.org/"]}, "letters, digits and dashes"),
        ({}, "--kind=KIND"),
    ],
)
def test_bad_add_is_one_line_and_changes_nothing(home: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(StorageError) as failure:
        api().add("nas", **arguments)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)
    assert MARKER not in str(failure.value)
    assert not {"cloudmesh.yaml", "vault.age", "vault.json", "vault.key"} & {file.name for file in home.iterdir()}


def test_a_secret_file_that_is_no_text_is_told_without_showing_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(MARKER.encode() + b"\xff")
    with pytest.raises(UsageError, match="not UTF-8") as failure:
        api().add("nas", kind="webdav", set=["url=x"], secret=[f"password=file:{tmp_path / 'pw'}"])
    assert failure.value.__context__ is None, "a traceback would hold the secret"
    assert not (home / "vault.age").exists()


def test_preset_fills_endpoint_and_region(home: Path) -> None:
    api().add("wasabi", preset="wasabi", set=["region=eu-central-1", "bucket=b"], no_test=True)
    found = Configuration().values("wasabi")["credentials"]
    assert found == {
        "region": "eu-central-1",
        "addressing_style": "path",
        "endpoint_url": "https://s3.eu-central-1.wasabisys.com",
        "bucket": "b",
    }
    api().add("r2r2", preset="r2", set=["account_id=abc123", "bucket=b"], no_test=True)
    found = Configuration().values("r2r2")["credentials"]
    assert found["endpoint_url"] == "https://abc123.r2.cloudflarestorage.com"
    assert "account_id" not in found


def test_edit_changes_what_is_named_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    monkeypatch.setenv("EDIT_SECRET", "new")
    api().edit(
        "aws", set=["region=eu-west-1", "directory=below", "label=mine"], secret=["session_token=env:EDIT_SECRET"]
    )
    values = Configuration().values("aws")
    assert values["credentials"]["region"] == "eu-west-1"
    assert values["default"]["directory"] == "below"
    assert values["cm"]["label"] == "mine"
    assert vault().list()[0].key == "session_token"
    api().edit("aws", unset=["region"])
    assert "region" not in Configuration().values("aws")["credentials"]
    with pytest.raises(UsageError, match="keys: "):
        api().edit("aws", set=["regoin=x"])
    person = Answers({"(region)": "asked"})
    api(person).edit("aws")
    assert Configuration().values("aws")["credentials"]["region"] == "asked"
    assert Configuration().values("aws")["credentials"]["bucket"] == "2024_01"


def test_remove_takes_the_secrets_too_and_leaves_the_files(home: Path, tmp_path: Path) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    vault(Answers(pipe=MARKER)).set("aws.secret_access_key")
    before = (home / "cloudmesh.yaml").read_bytes()
    assert api().remove("aws", dryrun=True).name == "aws"
    assert (home / "cloudmesh.yaml").read_bytes() == before
    api().remove("aws")
    assert vault().list() == []
    with pytest.raises(ConfigError):
        api().show("aws")
    with pytest.raises(Refused, match="built in"):
        api().remove("local")


def test_seal_moves_every_secret_out_of_the_file_and_its_backup(home: Path) -> None:
    path = home / "cloudmesh.yaml"
    path.write_text(TEMPLATE)
    Configuration().edit(lambda section: section["aws"]["credentials"].update(region="x"))
    assert MARKER in (home / "cloudmesh.yaml.bak").read_text()
    sealed = {(one.service, one.key) for one in api().seal()}
    assert {
        ("aws", "secret_access_key"), ("gdrive", "client_secret"), ("azure", "account_key"),
        ("azure", "AZURE_SECRET_KEY"), ("google", "private_key"), ("oracle", "pass_phrase"),
    } <= sealed  # fmt: skip
    assert MARKER not in text_of(home)
    assert "# to be sealed" in path.read_text()
    assert Configuration().settings("aws").credentials["secret_access_key"] == MARKER
    assert Configuration().settings("aws").credentials["access_key_id"] == "0123"
    assert "key: ~/.ssh/id_rsa.pub" in path.read_text()
    assert api().seal() == []


def test_a_dry_run_of_seal_tells_and_changes_nothing(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    told = {(one.service, one.key) for one in api().seal(dryrun=True)}
    assert ("aws", "secret_access_key") in told
    assert (home / "cloudmesh.yaml").read_text() == TEMPLATE
    assert not Vault().exists()
    assert {(one.service, one.key) for one in api().seal()} == told


def test_limits_are_checked_before_they_are_saved(home: Path, tmp_path: Path) -> None:
    place = f"directory={tmp_path}"
    with pytest.raises(ConfigError, match="bytes_per_second"):
        api().add("disk", kind="local", set=[place, "bytes_per_second=fast"])
    api().add("disk", kind="local", set=[place, "bytes_per_second=10M", "requests_per_second=5"])
    before = (home / "cloudmesh.yaml").read_text()
    with pytest.raises(ConfigError, match="requests_per_second"):
        api().edit("disk", set=["requests_per_second=0"])
    assert (home / "cloudmesh.yaml").read_text() == before
    settings = Configuration().settings("disk")
    assert (settings.bytes_per_second, settings.requests_per_second) == (10 * 2**20, 5)


def test_removing_a_service_forgets_both_or_neither(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    api().seal("aws")

    def full(*_: object, **__: object) -> None:
        raise StorageError("cloudmesh.yaml", "no room left")

    with monkeypatch.context() as broken:
        broken.setattr(Configuration, "edit", full)
        with pytest.raises(StorageError, match="no room"):
            api().remove("aws")
    assert Configuration().settings("aws").credentials["secret_access_key"] == MARKER
    api().remove("aws")
    assert Vault().secrets("aws") == {}
    with pytest.raises(ConfigError):
        Configuration().service("aws")


def test_seal_does_not_replace_another_value_in_the_vault(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    vault(Answers(pipe="another")).set("aws.secret_access_key")
    with pytest.raises(Refused, match="the vault holds another value"):
        api().seal("aws")
    assert (home / "cloudmesh.yaml").read_text() == TEMPLATE
    assert Vault().secrets("aws") == {"secret_access_key": "another"}


def test_export_is_the_only_way_out(home: Path, tmp_path: Path) -> None:
    vault(Answers(pipe=MARKER)).set("aws.secret_access_key")
    target = tmp_path / "plain.json"
    assert MARKER not in repr(vault().export(str(target), dryrun=True))
    assert not target.exists()
    vault().export(str(target))
    assert json.loads(target.read_text()) == {"aws": {"secret_access_key": MARKER}}
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        vault().export(str(target))
    (secret,) = vault().export("-")
    assert MARKER not in repr(secret)
    printed = io.StringIO()
    write([secret], "json", Output(printed))
    assert json.loads(printed.getvalue()) == [{"service": "aws", "key": "secret_access_key", "value": MARKER}]


def test_vault_keys_are_named_and_removed(home: Path) -> None:
    vault(Answers(pipe="line one\nline two")).set("my.nas.password")
    assert Vault().secrets("my.nas") == {"password": "line one\nline two"}
    for wrong in ("password", ".password", "nas.", "n.password"):
        with pytest.raises(UsageError, match=r"SERVICE\.KEY"):
            vault(Answers(pipe="x")).set(wrong)
    with pytest.raises(UsageError, match="empty"):
        vault(Answers(pipe="")).set("nas.password")
    with pytest.raises(NotFound):
        vault().remove("nas.password")
    vault().remove("my.nas.password")
    assert vault().list() == []


def _actions() -> list[tuple[str, Callable[[], Any]]]:
    return [
        ("list", lambda: api().list()),
        ("show", lambda: api().show("aws")),
        ("show nested", lambda: api().show("nested")),
        ("test", lambda: api().test()),
        ("vault list", lambda: vault().list()),
        ("vault remove", lambda: vault().remove("aws.nothing")),
        ("edit", lambda: api().edit("aws", set=["region=x"])),
        ("settings", lambda: Configuration().settings("aws")),
        ("settings of an incomplete service", lambda: Configuration().settings("incomplete")),
        ("seal", lambda: api().seal("oracle")),
        ("unlock", lambda: vault().unlock()),
        ("lock", lambda: vault().lock()),
        ("rekey", lambda: vault().rekey()),
        ("dry export", lambda: vault().export("-", dryrun=True)),
        ("remove", lambda: api().remove("gdrive")),
    ]


@pytest.mark.parametrize("state", ["whole", "damaged vault", "wrong key", "malformed yaml"])
def test_a_secret_is_never_shown(
    home: Path, state: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    extra = f"""\
    nested:
      cm: {{kind: webdav}}
      default: {{password: {MARKER}}}
      credentials: {{url: 'http://u:{MARKER}@127.0.0.1:1/?sig={MARKER}', auth: {{password: {MARKER}, x: [a]}}}}
    incomplete:
      cm: {{kind: sftp}}
      credentials: {{password: {MARKER}}}
"""
    nowhere = TEMPLATE.replace("region: us-east-1", "region: us-east-1\n        endpoint_url: http://127.0.0.1:1")
    (home / "cloudmesh.yaml").write_text(nowhere + extra)
    vault(Answers(pipe=MARKER)).set("aws.session_token")
    key = next(line for line in (home / "vault.key").read_text().splitlines() if line.startswith("AGE"))
    if state == "damaged vault":
        (home / "vault.age").write_bytes((home / "vault.age").read_bytes()[:-3])
    elif state == "wrong key":
        (home / "vault.key").write_text(key[:-3] + "QQQ\n")
    elif state == "malformed yaml":
        (home / "cloudmesh.yaml").write_text(nowhere + extra + f"    x: {MARKER}: [\n")
    caplog.set_level(logging.DEBUG, "cloudmesh")
    shown = io.StringIO()
    for _, action in _actions():
        try:
            result = action()
        except StorageError as error:
            traceback.print_exception(error, file=shown)
            shown.write(repr(error) + str(error))
        else:
            shown.write(repr(result))
            for form in ("table", "json", "yaml", "csv"):
                with contextlib.suppress(TypeError):
                    write(result, form, Output(shown))
    captured = capfd.readouterr()
    everything = shown.getvalue() + caplog.text + captured.out + captured.err
    assert "aws" in everything
    assert MARKER not in everything
    assert key not in everything


def test_show_tells_where_a_secret_is(home: Path) -> None:
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    vault(Answers(pipe=MARKER)).set("aws.session_token")
    shown = {one.key: (one.value, one.source) for one in api().show("aws")}
    assert shown["credentials.session_token"] == ("***", "vault")
    assert shown["credentials.secret_access_key"] == ("***", "configuration")
    assert shown["credentials.bucket"] == ("2024_01", "configuration")
    assert shown["default.directory"] == ("", "")
    assert {one.key: one.value for one in api().show("local")}["default.directory"] == str(home / "local")


def test_vault_set_reads_a_pipe_without_its_last_newline(home: Path) -> None:
    code = "from cloudmesh.storage.vault_api import VaultApi\nVaultApi().set('nas.password')"
    subprocess.run([sys.executable, "-c", code], input=b" two\nlines \r\n", check=True)
    assert Vault().secrets("nas") == {"password": " two\nlines "}


def test_vault_set_does_not_echo_on_a_terminal(home: Path) -> None:
    leader, follower = pty.openpty()
    code = "from cloudmesh.storage.vault_api import VaultApi\nVaultApi().set('nas.password')"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + 60
    while b"nas.password" not in seen and time.monotonic() < deadline:
        seen += os.read(leader, 1000)
    os.write(leader, MARKER.encode() + b"\n")
    with contextlib.suppress(OSError):
        while piece := os.read(leader, 1000):
            seen += piece
    os.close(leader)
    assert process.wait(60) == 0
    assert MARKER.encode() not in seen
    assert Vault().secrets("nas") == {"password": MARKER}


def test_secret_option_without_a_source_asks(home: Path) -> None:
    person = Answers({"password": MARKER})
    ConfigApi(prompt=person).add("nas", kind="sftp", set=["host=h", "username=u"], secret=["password"], no_test=True)
    assert Vault().secrets("nas") == {"password": MARKER}
    with pytest.raises(UsageError, match="--secret=password=env:VARIABLE"):
        ConfigApi(prompt=NOBODY).edit("nas", secret=["password"])


def test_guided_add_of_a_local_service_needs_its_directory(home: Path) -> None:
    person = Answers({"Kind": "local"})
    with pytest.raises(UsageError, match="directory: is needed"):
        ConfigApi(prompt=person).add("disk")
    assert not any("empty for none" in question for question in person.asked if "(directory)" in question)
    assert not (home / "cloudmesh.yaml").exists()


def test_service_that_is_not_there_cannot_be_removed(home: Path) -> None:
    with pytest.raises(ConfigError, match="nas: there is no such service"):
        api().remove("nas")


def test_service_without_secrets_works_while_the_vault_cannot_be_opened(home: Path) -> None:
    vault(Answers(pipe=MARKER)).set("nas.password")
    (home / "cloudmesh.yaml").write_text(ANONYMOUS)
    recipient = json.loads((home / "vault.json").read_text())["ways"][0]["recipients"][0]
    (home / "vault.key").unlink()
    assert Configuration().settings("open").credentials["anonymous"] is True
    assert {one.source for one in api().show("open")} <= {"configuration", ""}
    with pytest.raises(VaultError):
        Configuration().settings("nas")
    # others may have put anything into it
    theirs = subprocess.run(["age", "-r", recipient], input=b"{}", capture_output=True, check=True).stdout
    (home / "vault.age").write_bytes(theirs)
    with pytest.raises(VaultError):
        Configuration().settings("open")


ANONYMOUS = """\
cloudmesh:
  storage:
    open:
      cm: {kind: awss3}
      credentials: {bucket: b, anonymous: true}
    nas:
      cm: {kind: sftp}
      credentials: {host: example.org}
"""


def test_kind_without_secrets_works_while_the_vault_cannot_be_opened(home: Path) -> None:
    vault(Answers(pipe=MARKER)).set("aws.session_token")
    (home / "vault.key").unlink()
    (home / "cloudmesh.yaml").write_text(TEMPLATE)
    assert Configuration().settings("local")
    with pytest.raises(VaultError):
        Configuration().settings("aws")
    assert api().list()


def test_the_place_of_a_service_is_checked_and_editing_it_puts_it_back_in_use(home: Path) -> None:
    config = api()
    config.add("box", "local", set=["directory=/tmp/box"], no_test=True)
    with Database() as database:
        health = Health(database)
        for _ in range(LIMIT):
            health.failed("box", Unavailable("box:"))
        assert health.outages().keys() == {"box"}
        with pytest.raises(ConfigError, match="'atlantis' is no place"):
            config.edit("box", set=["place=atlantis"])
        assert health.outages().keys() == {"box"}
        config.edit("box", set=["place=39.17,-86.52"])
        assert health.outages() == {}
    assert Configuration().outline("box").options["place"] == "39.17,-86.52"
