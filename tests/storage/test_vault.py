"""The vault, with Debian's ``age`` tool as the second opinion."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.errors import AlreadyExists, UsageError, VaultError
from cloudmesh.storage.vault import Secrets, Vault
from cloudmesh.storage.vault_keys import OpenedWith
from tests.storage.answers import NOBODY, Answers

MARKER = "marker-Xq7-secret"


def put(vault: Vault, service: str = "aws", key: str = "secret_access_key", value: str = MARKER) -> None:
    def change(secrets: Secrets) -> None:
        secrets.setdefault(service, {})[key] = value

    vault.change(change)


def age(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(["age", *map(str, arguments)], input=data, capture_output=True, check=True).stdout


def ssh_key(folder: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"id_{kind}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a login session."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("CDIR_VAULT_PASSPHRASE", raising=False)
    monkeypatch.delenv("CDIR_VAULT_NEW_PASSPHRASE", raising=False)
    return folder


def test_first_secret_makes_the_vault_and_only_its_owner_can_read_it(home: Path) -> None:
    old = os.umask(0)
    try:
        put(Vault())
    finally:
        os.umask(old)
    for name in ("vault.age", "vault.key", "vault.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert MARKER not in (home / name).read_text(errors="replace")
    assert Vault().secrets("aws") == {"secret_access_key": MARKER}
    assert Vault().secrets("box") == {}


def test_age_opens_our_vault_and_we_open_its(home: Path) -> None:
    put(Vault())
    plain = json.loads(age("-d", "-i", home / "vault.key", home / "vault.age"))
    assert plain == {"aws": {"secret_access_key": MARKER}}
    plain["box"] = {"token": "from outside"}
    recipient = json.loads((home / "vault.json").read_text())["ways"][0]["recipients"][0]
    for armor in ([], ["-a"]):
        (home / "vault.age").write_bytes(age("-e", *armor, "-r", recipient, data=json.dumps(plain).encode()))
        assert Vault().secrets("box") == {"token": "from outside"}
    put(Vault(), key="session_token")
    assert set(Vault().all()) == {"aws", "box"}


def test_age_keygen_identity_is_used_and_never_changed(home: Path, tmp_path: Path) -> None:
    identity = tmp_path / "mine.txt"
    subprocess.run(["age-keygen", "-o", str(identity)], check=True, capture_output=True)
    before = identity.read_bytes()
    vault = Vault()
    vault.create("identity", str(identity))
    put(vault)
    assert json.loads(age("-d", "-i", identity, home / "vault.age"))["aws"]
    vault.rekey()
    assert identity.read_bytes() == before
    assert Vault().secrets("aws")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_key_opens_it_here_and_in_age(home: Path, runtime: Path, kind: str) -> None:
    key = ssh_key(home.parent / ".ssh", kind)
    Vault().create("ssh")
    put(Vault(prompt=NOBODY))
    assert Vault(prompt=NOBODY).secrets("aws")
    assert json.loads(age("-d", "-i", key, home / "vault.age"))["aws"]["secret_access_key"] == MARKER


def test_ssh_key_with_passphrase_is_asked_once_a_session(home: Path, runtime: Path) -> None:
    key = ssh_key(home.parent / ".ssh", passphrase="open it")
    person = Answers({"Passphrase": "open it"})
    vault = Vault(prompt=person)
    vault.create("ssh", str(key))
    put(vault)
    with pytest.raises(UsageError, match="CDIR_VAULT_PASSPHRASE"):
        Vault(prompt=NOBODY).secrets("aws")
    with pytest.raises(VaultError, match="passphrase of the ssh key is wrong"):
        Vault(prompt=Answers({"Passphrase": "no"})).secrets("aws")
    assert Vault(prompt=person).unlock().locked is False
    assert Vault(prompt=NOBODY).secrets("aws")
    assert b"OPENSSH" not in b"".join(file.read_bytes() for file in runtime.rglob("*") if file.is_file())


def test_ecdsa_key_is_refused_before_anything_is_made(home: Path) -> None:
    key = ssh_key(home.parent / ".ssh", "ecdsa")
    with pytest.raises(VaultError, match="ed25519 or rsa"):
        Vault().create("ssh", str(key))
    assert not (home / "vault.age").exists()
    assert not (home / "vault.json").exists()


def test_passphrase_unlock_and_lock(home: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(prompt=Answers({"passphrase": "right", "same": "right"}))
    vault.create("passphrase")
    put(vault)
    monkeypatch.setenv("CDIR_VAULT_PASSPHRASE", "wrong")
    with pytest.raises(VaultError, match="the passphrase is wrong"):
        Vault(prompt=NOBODY).secrets("aws")
    monkeypatch.setenv("CDIR_VAULT_PASSPHRASE", "right")
    assert Vault(prompt=NOBODY).secrets("aws")
    monkeypatch.delenv("CDIR_VAULT_PASSPHRASE")
    with pytest.raises(UsageError, match="unlock"):
        Vault(prompt=NOBODY).secrets("aws")
    assert Vault(prompt=NOBODY).state().locked
    assert not Vault(prompt=Answers({"Passphrase": "right"})).unlock().locked
    assert Vault(prompt=NOBODY).secrets("aws") == {"secret_access_key": MARKER}
    (kept,) = (file for file in runtime.rglob("*") if file.is_file())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert Vault(prompt=NOBODY).lock().locked
    with pytest.raises(UsageError):
        Vault(prompt=NOBODY).secrets("aws")


def test_two_different_new_passphrases_make_nothing(home: Path, runtime: Path) -> None:
    with pytest.raises(VaultError, match="not the same"):
        Vault(prompt=Answers({"New": "a", "same": "b"})).create("passphrase")
    assert not [file for file in home.iterdir() if not file.name.endswith(".lock")]


def test_vault_opened_by_a_file_cannot_be_locked(home: Path) -> None:
    Vault().create()
    with pytest.raises(VaultError, match="rekey --with=passphrase"):
        Vault().lock()


def test_system_keyring(home: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "XDG_DATA_HOME": str(tmp_path),
    }
    code = (
        "from cloudmesh.storage.vault import Vault\n"
        "v = Vault(); v.create('keyring'); v.change(lambda s: s.update(aws={'password': 'kept'}))\n"
        "print(Vault().secrets('aws')['password'], Vault().rekey('keyring').opened_with)\n"
        "print(Vault().secrets('aws')['password'], Vault().rekey('identity').opened_with)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["kept", "keyring", "kept", "identity"]
    rings = [file.read_text() for file in tmp_path.rglob("*.cfg")]
    assert rings
    assert not any("cloudmesh" in ring and "=" in ring.partition("[cloudmesh")[2] for ring in rings)


def test_missing_keyring_is_one_line_and_nothing_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    code = "from cloudmesh.storage.vault import Vault\nVault().create('keyring')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "VaultError: system keyring: there is none on this machine" in out.stderr
    assert not (home / "vault.age").exists()
    assert not (home / "vault.json").exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "header", "text", "other key"])
def test_damaged_vault_is_told_and_left_alone(home: Path, damage: str) -> None:
    put(Vault())
    put(Vault(), value="second")
    path = home / "vault.age"
    data = path.read_bytes()
    other = subprocess.run(["age-keygen"], capture_output=True, check=True, text=True).stdout
    recipient = next(line for line in other.splitlines() if "public key" in line).rpartition(" ")[2]
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[:-20],
            "flipped": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            "header": data[:60],
            "text": b"aws: {}\n",
            "other key": age("-r", recipient, data=b"{}"),
        }[damage]
    )
    before = {file: file.read_bytes() for file in home.iterdir() if file.is_file()}
    with pytest.raises(VaultError) as failure:
        put(Vault())
    text = str(failure.value)
    assert str(path) in text
    assert "vault.age.bak" in text
    assert "\n" not in text
    assert {file: file.read_bytes() for file in home.iterdir() if file.is_file()} == before
    shutil.copy(home / "vault.age.bak", path)
    assert Vault().secrets("aws") == {"secret_access_key": MARKER}


def test_content_that_is_no_mapping_is_told_without_showing_it(home: Path) -> None:
    put(Vault())
    recipient = json.loads((home / "vault.json").read_text())["ways"][0]["recipients"][0]
    for content in (MARKER, f'["{MARKER}"]', f'{{"aws": "{MARKER}"}}'):
        (home / "vault.age").write_bytes(age("-r", recipient, data=content.encode()))
        with pytest.raises(VaultError) as failure:
            Vault().all()
        assert MARKER not in str(failure.value)


def test_lost_vault_is_not_silently_begun_anew(home: Path) -> None:
    put(Vault())
    put(Vault(), value="second")
    (home / "vault.age").unlink()
    with pytest.raises(VaultError, match="is missing"):
        put(Vault())
    with pytest.raises(AlreadyExists):
        Vault().create()


def test_folder_can_be_moved(home: Path, tmp_path: Path) -> None:
    put(Vault())
    home.rename(tmp_path / "elsewhere")
    assert Vault(tmp_path / "elsewhere").secrets("aws")
    (tmp_path / "elsewhere" / "vault.json").unlink()
    put(Vault(tmp_path / "elsewhere"), "box", "token")
    assert Vault(tmp_path / "elsewhere").secrets("aws")
    (tmp_path / "elsewhere" / "vault.json").write_text("{}")
    with pytest.raises(VaultError, match="does not tell how"):
        Vault(tmp_path / "elsewhere").all()


def test_key_file_that_others_may_read_is_refused(home: Path) -> None:
    put(Vault())
    (home / "vault.key").chmod(0o640)
    with pytest.raises(VaultError, match="chmod 600"):
        Vault().secrets("aws")
    (home / "vault.key").unlink()
    with pytest.raises(VaultError, match="is missing"):
        Vault().secrets("aws")
    (home / "vault.key").write_text("AGE-SECRET-KEY-1BROKEN\n")
    (home / "vault.key").chmod(0o600)
    with pytest.raises(VaultError) as failure:
        Vault().secrets("aws")
    assert "BROKEN" not in str(failure.value)


def test_previous_version_is_kept(home: Path) -> None:
    put(Vault(), value="first")
    put(Vault(), value="second")
    assert (
        json.loads(age("-d", "-i", home / "vault.key", home / "vault.age.bak"))["aws"]["secret_access_key"] == "first"
    )
    before = (home / "vault.age").read_bytes()
    put(Vault(), value="second")
    assert (home / "vault.age").read_bytes() == before, "nothing changed, so nothing is written"


def _write_many(folder: str, name: str) -> None:
    for number in range(8):
        put(Vault(Path(folder)), name, f"key{number}", name)


def test_many_writers_lose_nothing(home: Path) -> None:
    Vault().create()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(home), f"service{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert {service: len(keys) for service, keys in Vault().all().items()} == {f"service{n}": 8 for n in range(4)}


def test_change_by_others_between_reading_and_writing_is_merged(home: Path) -> None:
    put(Vault())
    recipient = json.loads((home / "vault.json").read_text())["ways"][0]["recipients"][0]
    changed: list[bool] = []

    def change(secrets: Secrets) -> None:
        if not changed:  # another program, which does not know of our lock
            changed.append(True)
            theirs = json.dumps({"box": {"token": "theirs"}, **secrets}).encode()
            (home / "vault.age").write_bytes(age("-r", recipient, data=theirs))
        secrets["nas"] = {"password": "ours"}

    Vault().change(change)
    assert set(Vault().all()) == {"aws", "box", "nas"}


def test_open_vault_object_sees_what_others_write(home: Path) -> None:
    first, second = Vault(), Vault()
    put(first, value="one")
    assert second.secrets("aws")["secret_access_key"] == "one"
    put(first, value="two")
    assert second.secrets("aws")["secret_access_key"] == "two"


REKEYS: list[tuple[OpenedWith, OpenedWith]] = [
    ("identity", "identity"),
    ("identity", "ssh"),
    ("ssh", "identity"),
    ("ssh", "ssh"),
    ("passphrase", "passphrase"),
]


@pytest.mark.parametrize(("old", "new"), REKEYS)
def test_dying_anywhere_in_a_rekey_leaves_a_vault_that_opens(
    home: Path, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: OpenedWith, new: OpenedWith
) -> None:
    """What a process leaves that dies before any of its renames opens with the old or the new passphrase or key."""
    old_ssh, new_ssh = ssh_key(tmp_path / "old"), ssh_key(tmp_path / "new")
    person = Answers({"": "old"})
    vault = Vault(prompt=person)
    vault.create(old, str(old_ssh) if old == "ssh" else "")
    put(vault)
    wrapped = home / "vault.passphrase.age"  # opening it is slow on purpose, so it is tried with the right one only
    with_old = wrapped.read_bytes() if old == "passphrase" else b""
    left: list[Path] = []
    rename = Path.replace

    def remember(self: Path, target: Path) -> Path:
        left.append(shutil.copytree(home, tmp_path / f"left{len(left)}"))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", remember)
        person.answers = {"New": "new", "same": "new", "Passphrase": "old"}
        vault.rekey(new, str(new_ssh) if new == "ssh" else "")
    assert len(left) > 5
    names = ("vault.age", "vault.json", "vault.key", wrapped.name, "vault.ssh.age")  # what opening depends on
    seen = [
        {name: (left[0] / name).read_bytes() for name in names if (left[0] / name).exists()}
    ]  # nothing was done yet
    for state in [*left, shutil.copytree(home, tmp_path / "done")]:
        files = {name: (state / name).read_bytes() for name in names if (state / name).exists()}
        if files not in seen:
            seen.append(files)
            shutil.rmtree(home)
            shutil.copytree(state, home)
            passphrase = "old" if files.get(wrapped.name) == with_old else "new"
            assert Vault(prompt=Answers({"": passphrase})).secrets("aws") == {"secret_access_key": MARKER}, state.name


def test_rekeyed_vault_and_its_backup_do_not_open_with_the_old_key(home: Path, tmp_path: Path) -> None:
    put(Vault(), value="first")
    put(Vault(), value="second")
    shutil.copy(home / "vault.key", tmp_path / "leaked")
    Vault().rekey()
    for name in ("vault.age", "vault.age.bak"):
        assert json.loads(age("-d", "-i", home / "vault.key", home / name))
        with pytest.raises(subprocess.CalledProcessError):
            age("-d", "-i", tmp_path / "leaked", home / name)
    assert (home / "vault.key").read_text().count("AGE-SECRET-KEY") == 1


def test_dying_between_write_and_rename_loses_nothing(home: Path) -> None:
    put(Vault())
    script = (
        "import os, pathlib\n"
        "from cloudmesh.storage.vault import Vault\n"
        "real = pathlib.Path.replace\n"
        "pathlib.Path.replace = lambda s, t: os._exit(9) if t.name == 'vault.age' else real(s, t)\n"
        "Vault().change(lambda s: s.clear())\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert Vault().secrets("aws") == {"secret_access_key": MARKER}
    put(Vault(), "box", "token", "after")
    assert Vault().secrets("box")


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT, min_size=1, max_size=3), max_size=3))
def test_every_text_comes_back(home: Path, content: dict[str, dict[str, str]]) -> None:
    def change(secrets: Secrets) -> None:
        secrets.clear()
        secrets.update(content)

    Vault().change(change)
    assert Vault().all() == content
    assert json.loads(age("-d", "-i", home / "vault.key", home / "vault.age")) == content
