"""S3-compatible services that users know by name: where their endpoints are and how buckets are addressed.

Placeholders in an endpoint are parameters that ``config add --set`` gives or that are asked for.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from cloudmesh.storage.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preset:
    """One S3-compatible service.

    Attributes:
        name: what the user types.
        label: what it is called.
        endpoint: URL with placeholders; empty where the client library knows it (AWS).
        region: the region where none is given; empty = it must be given.
        addressing_style: ``path`` or ``virtual``.
        documentation: the vendor's page that says so.
    """

    name: str
    label: str
    endpoint: str
    region: str
    addressing_style: str
    documentation: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """What must be known before the endpoint is: the placeholders, and the region where it has no default."""
        fields = [field for _, field, _, _ in string.Formatter().parse(self.endpoint) if field]
        needed = [field for field in fields if field != "region" or not self.region]
        return tuple(needed if self.region or "region" in needed else [*needed, "region"])

    def settings(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Return the keys of ``credentials`` that this preset means, given its ``parameters``.

        Raises:
            UsageError: a parameter is missing or would change the host's domain.
        """
        region = parameters.get("region") or self.region
        values = {**parameters, "region": region}
        for name in self.parameters:
            value = values.get(name, "")
            if not value:
                raise UsageError(f"preset {self.name}", f"needs {name}", f"--set={name}=VALUE")
            if name != "endpoint_url" and not value.replace("-", "").isalnum():
                raise UsageError(f"preset {self.name}", f"{name} may hold letters, digits and dashes only")
        settings = {"region": region, "addressing_style": self.addressing_style}
        if self.endpoint:
            settings["endpoint_url"] = self.endpoint.format_map(values)
        return settings


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "aws",
            "Amazon S3",
            "",
            "us-east-1",
            "virtual",
            "https://docs.aws.amazon.com/general/latest/gr/s3.html",
        ),
        Preset(
            "backblaze",
            "Backblaze B2",
            "https://s3.{region}.backblazeb2.com",
            "",
            "path",
            "https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api",
        ),
        Preset(
            "cloudflare",
            "Cloudflare R2",
            "https://{account_id}.r2.cloudflarestorage.com",
            "auto",
            "path",
            "https://developers.cloudflare.com/r2/api/s3/api/",
        ),
        Preset(
            "digitalocean",
            "DigitalOcean Spaces",
            "https://{region}.digitaloceanspaces.com",
            "",
            "virtual",
            "https://docs.digitalocean.com/products/spaces/reference/aws-sdks/",
        ),
        # The endpoint is unique for every account and region; the dashboard shows it.
        Preset(
            "idrive",
            "IDrive e2",
            "{endpoint_url}",
            "us-east-1",
            "path",
            "https://www.idrive.com/object-storage-e2/developer-guide",
        ),
        Preset(
            "minio",
            "MinIO",
            "{endpoint_url}",
            "us-east-1",
            "path",
            "https://min.io/docs/minio/linux/reference/minio-server/settings/core.html",
        ),
        Preset(
            "oracle",
            "Oracle Object Storage, S3 interface",
            "https://{namespace}.compat.objectstorage.{region}.oci.customer-oci.com",
            "",
            "path",
            "https://docs.oracle.com/en-us/iaas/Content/Object/s3-virtual-style.htm",
        ),
        Preset(
            "scaleway",
            "Scaleway Object Storage",
            "https://s3.{region}.scw.cloud",
            "fr-par",
            "virtual",
            "https://www.scaleway.com/en/docs/storage/object/concepts/",
        ),
        Preset(
            "storj",
            "Storj, hosted gateway",
            "https://gateway.storjshare.io",
            "us1",
            "path",
            "https://storj.dev/dcs/api/s3/s3-compatible-gateway",
        ),
        # Path style is what Wasabi itself recommends (section "Host Designation").
        Preset(
            "wasabi",
            "Wasabi",
            "https://s3.{region}.wasabisys.com",
            "us-east-1",
            "path",
            "https://docs.wasabi.com/docs/rest-api-introduction",
        ),
    )
}
ALIASES: Mapping[str, str] = {"r2": "cloudflare", "b2": "backblaze", "e2": "idrive", "spaces": "digitalocean"}


def preset(name: str) -> Preset:
    """Return the preset of that name or short name (``r2``, ``b2``, ``e2``, ``spaces``).

    Raises:
        UsageError: there is none.
    """
    key = name.lower()
    found = PRESETS.get(ALIASES.get(key, key))
    if found is None:
        raise UsageError(f"--preset={name}", "there is no such preset", f"presets: {', '.join(PRESETS)}")
    return found
