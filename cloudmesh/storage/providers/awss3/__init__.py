"""Amazon S3 and every service that speaks its protocol.

Bytes move through obstore (Rust); boto3, Amazon's own library, does what obstore cannot: the credential chain, listings
and deletions faithful to every name, parts with conditions, copies on the server, versions.

* `connection` reads the settings and makes both libraries ready, `credentials` is boto3's session;
* `faults` turns what the libraries raise into our errors, `metadata` reads and writes ETags and times;
* `bucket` knows keys, looks things up, and keeps what is learnt about the server;
* `listing` reads one answer to a listing, `scanning` makes directories and trees of them;
* `reading`, `writing`, `conditions`, `copying`, `directories`, `removing` and `versions` each do what they are called;
* `multipart` sends a file in parts, `unfinished` finds the uploads that a killed process left;
* `provider` puts them together.
"""

from cloudmesh.storage.providers.awss3.provider import S3Storage

__all__ = ["S3Storage"]
