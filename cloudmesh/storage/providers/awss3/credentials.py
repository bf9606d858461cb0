"""boto3's session, which finds credentials as the aws client does, and renews those that end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

_LOGGERS = frozenset({"boto3", "botocore", "s3transfer", "urllib3"})

# The profile that the environment names, and that may not even exist, does not concern configured keys and roles.
_NO_PROFILE = {"profile": (None, None, None, None)}


def make_session(
    keys: Mapping[str, str | None], *, profile: str | None, role: str | None, region: str | None, default_region: str
) -> Any:
    """Return a ``boto3.session.Session``.

    Args:
        keys: as boto3 names them, such as ``aws_access_key_id``; empty for its own chain (environment, configuration
            files, single sign-on, machine role).
        profile: of the AWS configuration files.
        role: ARN of a role to assume with these credentials.
        region: None to take the one of the environment or the profile.
        default_region: where there is none.

    Raises:
        what botocore raises: the profile does not exist, there are no credentials for the role.
    """
    import boto3.session
    import botocore.session

    keep_secrets_out_of_logs()
    core = botocore.session.Session(session_vars=_NO_PROFILE if keys else None)
    session = boto3.session.Session(**keys, botocore_session=core, profile_name=profile, region_name=region)
    return _assumed(session, role, session.region_name or default_region) if role else session


def keep_secrets_out_of_logs() -> None:
    """Let Amazon's libraries log nothing below INFO: at DEBUG they print session tokens and whole answers of STS."""
    for name in _LOGGERS | {known for known in logging.root.manager.loggerDict if known.partition(".")[0] in _LOGGERS}:
        logger = logging.getLogger(name)
        # A logger without a level of its own has that of its parent; only the topmost may not be without.
        if 0 < logger.level < logging.INFO or (name in _LOGGERS and logger.level < logging.INFO):
            logger.setLevel(logging.INFO)


def _assumed(source: Any, role: str, region: str) -> Any:
    """Return a session with the credentials of ``role``, assumed with those of ``source`` and renewed in time."""
    import boto3.session
    import botocore.session
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )
    from botocore.exceptions import NoCredentialsError

    credentials = source.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(source.client, region_name=region),
        source_credentials=credentials,
        role_arn=role,
        extra_args={"RoleSessionName": "cloudmesh-vdir"},
    )

    class Assumed(CredentialProvider):  # type: ignore[misc]
        METHOD = "assume-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(method=self.METHOD, refresh_using=fetcher.fetch_credentials)

    session = botocore.session.Session(session_vars=_NO_PROFILE)
    session.register_component("credential_provider", CredentialResolver([Assumed()]))
    return boto3.session.Session(botocore_session=session, region_name=region)
