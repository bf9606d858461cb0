"""Amazon S3 and every service that speaks its protocol.

Bytes move through obstore (Rust); botocore, Amazon's own library below boto3, does what obstore cannot: the credential
chain, listings and deletions faithful to every name, parts with conditions, copies on the server, versions.
"""

from cloudmesh.storage.providers.awss3.provider import S3Storage

__all__ = ["S3Storage"]
