"""SFTP: files on any host that is reached by ssh.

* `known_hosts` tells whether a host's key may be trusted;
* `session` opens one authenticated ssh connection (libssh does the cryptography) and its byte channel;
* `protocol` speaks SFTP version 3 with OpenSSH's extensions over such a channel, many requests in flight;
* `pool` keeps the connections;
* `storage` is the provider.
"""

from cloudmesh.storage.providers.sftp.storage import SftpStorage

__all__ = ["SftpStorage"]
