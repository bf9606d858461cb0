"""SFTP: files on any host that is reached by ssh.

From the wire up:

* `settings` reads what the service's configuration says, `ssh_config` what ~/.ssh/config adds;
* `known_hosts` tells whether a host's key may be trusted; `ssh_session` connects and logs in (libssh does the
  cryptography), through a jump host by `tunnel`; `watchdog` ends what takes too long;
* `channel` is the resulting stream of bytes;
* `protocol` speaks SFTP version 3 with OpenSSH's extensions over it, many requests under way at once;
* `pool` keeps connections and `sessions` lends them, with `faults` turning what goes wrong into our errors;
* `root` knows names and links, `entries` what SFTP tells of a file; `listing`, `reading`, `writing`, `renaming` and
  `directories` do the work;
* `flows` does many small files at once over one session, each as `small_files` says;
* `storage` is the provider.
"""

from cloudmesh.storage.providers.sftp.storage import SftpStorage

__all__ = ["SftpStorage"]
