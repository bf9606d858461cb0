"""WebDAV, with what Nextcloud and ownCloud add to it."""

from cloudmesh.storage.providers.webdav.provider import WebdavStorage

__all__ = ["WebdavStorage"]
