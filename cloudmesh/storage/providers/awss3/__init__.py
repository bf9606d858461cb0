"""Amazon S3 and every service that speaks its protocol.

One signed request over libcurl is what nearly everything is made of. obstore (Rust) streams what is read and presigns;
boto3, Amazon's own library, finds credentials where no keys are configured. Both are imported only then.

* `connection` reads the settings and makes the three libraries ready, `credentials` is boto3's session;
* `http` makes and sends requests, `signing` signs them;
* `faults` turns what answers and libraries tell into our errors, `metadata` reads and writes ETags and times;
* `bucket` knows keys, looks things up, and keeps what is learnt about the server;
* `listing` reads one answer to a listing, `scanning` makes directories and trees of them;
* `reading`, `writing`, `conditions`, `copying`, `directories`, `removing` and `versions` each do what they are called;
* `many` reads and writes small files, many at once;
* `multipart` sends a file in parts, `unfinished` keeps what a killed process has sent until it goes on;
* `provider` puts them together.
"""

from cloudmesh.storage.providers.awss3.provider import S3Storage

__all__ = ["S3Storage"]
