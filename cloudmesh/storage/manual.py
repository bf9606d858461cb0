"""The manual of ``storage``: each usage line is bound to a method of `cloudmesh.storage.api.Storage`.

It stands here, away from the PluginCommand class, because importing `cloudmesh.shell` costs a third of what a whole
``cdir ls`` may take.
"""

from cloudmesh.storage.dispatch import Command

STORAGE = Command(
    "storage",
    """::

  Usage:
    storage [--storage=SERVICE] [--parallel=N] create dir DIRECTORY
    storage [--storage=SERVICE] [--parallel=N] get SOURCE DESTINATION [--recursive] [--dryrun] [options]
    storage [--storage=SERVICE] [--parallel=N] put SOURCE DESTINATION [--recursive] [--dryrun] [options]
    storage [--storage=SERVICE] [--parallel=N] list [SOURCE] [--recursive] [--dir-only] [--output=OUTPUT]
    storage [--storage=SERVICE] [--parallel=N] delete SOURCE [--recursive] [--dryrun] [--yes]
    storage [--storage=SERVICE] search DIRECTORY FILENAME [--recursive] [--output=OUTPUT]
    storage [--storage=SERVICE] [--parallel=N] sync SOURCE DESTINATION [--name=NAME] [--async] [--dryrun] [options]
    storage [--storage=SERVICE] sync status [--name=NAME]
    storage [--storage=SERVICE] [--parallel=N] copy SOURCE DESTINATION [--recursive] [--dryrun] [options]
    storage [--storage=SERVICE] [--parallel=N] move SOURCE DESTINATION [--recursive] [--force] [--dryrun] [--yes]
    storage [--storage=SERVICE] stat SOURCE
    storage [--storage=SERVICE] cat SOURCE
    storage [--storage=SERVICE] tree [DIRECTORY]
    storage [--storage=SERVICE] url SOURCE [--expires=DURATION] [--method=METHOD]
    storage [--storage=SERVICE] versions SOURCE
    storage [--storage=SERVICE] usage [DIRECTORY]
    storage [--storage=SERVICE] check SOURCE DESTINATION [--deep]
    storage measure [SERVICE] [--size=SIZE]
    storage run [NAME]
    storage monitor [NAME] [--interval=DURATION]
    storage clean [--older=DURATION] [--dryrun]
    storage jobs list
    storage jobs show NAME
    storage jobs pause NAME
    storage jobs resume [NAME]
    storage jobs cancel NAME
    storage jobs remove NAME
    storage jobs log NAME [--follow]
    storage config list [--output=OUTPUT]
    storage config show NAME
    storage config add NAME [--kind=KIND] [--preset=PRESET] [--set=ASSIGNMENT]... [--secret=ASSIGNMENT]... [--no-test]
    storage config edit NAME [--set=ASSIGNMENT]... [--unset=KEY]... [--secret=ASSIGNMENT]...
    storage config remove NAME [--dryrun] [--yes]
    storage config test [NAME]
    storage config seal [NAME] [--dryrun]
    storage vault init [--with=METHOD] [--identity=FILE]
    storage vault set KEY
    storage vault list
    storage vault remove KEY
    storage vault rekey [--with=METHOD] [--identity=FILE]
    storage vault lock
    storage vault unlock
    storage vault export --to=FILE [--dryrun] [--yes]

  This command works on the files of one service, or between two.

  A place is written SERVICE:PATH, such as aws:data/a.csv; a path alone is on the service given with --storage, else
  chosen with `cms set storage=SERVICE`, else `local`. SOURCE of put and DESTINATION of get are paths of this computer;
  so is SOURCE of sync where it names no service, and DESTINATION of sync where only SOURCE names one. Copying a
  directory brings what is in it to DESTINATION. Files that are the same already are skipped.

  A sync with --name or --async is a job: it cannot run twice at once, on whatever computers. After a restart `storage
  jobs resume` lets all interrupted jobs go on in the background, and `storage run` in the foreground; with NAME they
  also take up a job that was paused or cancelled, or has failed. What was done is not done again. `storage clean`
  forgets jobs that have ended.

  `storage measure` writes, reads and removes temporary files. What it finds decides from where the virtual directory
  reads a file, and how the times of different services compare; a service that was out of use because it had failed is
  used again if it works.

  Options:
    --storage=SERVICE    the service that a path without one is on
    --parallel=N         files under way at once
    --recursive          all that is in a directory, too
    --dir-only           directories alone
    --dryrun             change nothing, only count
    --yes                do not ask
    --force              replace a file that is in the way
    --name=NAME          make it a job of this name, of which only one runs at a time
    --async              return at once; the work goes on in a process of its own
    --interval=DURATION  from one look at the jobs to the next, such as 5s
    --older=DURATION     only jobs that ended so long ago, such as 7d
    --follow             go on with what is added until the job ends
    --expires=DURATION   how long the URL is good, such as 30m, 12h or 7d
    --method=METHOD      GET to read the file, PUT to write it
    --deep               read and compare every byte
    --size=SIZE          bytes of the file that is written and read to measure, such as 1M or 64M
    --kind=KIND          local, awss3, webdav or sftp
    --preset=PRESET      a well-known S3 service, such as wasabi, r2, b2, minio or digitalocean
    --set=ASSIGNMENT     KEY=VALUE; may be repeated
    --unset=KEY          take a key out; may be repeated
    --secret=ASSIGNMENT  KEY=- reads it from standard input, KEY=env:NAME from the environment, KEY alone asks
    --no-test            save without testing the connection
    --with=METHOD        how the vault is opened: identity, passphrase, ssh or keyring
    --identity=FILE      an age identity file, or an ssh private key
    --to=FILE            a new file; - is standard output
    --output=OUTPUT      table, json, yaml or csv

  Transfer options:
    --include=PATTERN...    only files that a pattern fits; may be repeated
    --exclude=PATTERN...    no files that a pattern fits; may be repeated
    --filter-from=FILE      rules, one a line: + PATTERN or - PATTERN; the first that fits decides, ! forgets all above
    --max-size=SIZE         only files of at most so much, such as 100K, 10M or 1.5GiB
    --min-size=SIZE         only files of at least so much
    --newer=TIME            only files modified since, such as 2026-01-31, 2026-01-31T18:00, 36h or 7d
    --checksum              compare files by content, not by size and time
    --size-only             compare files by size alone
    --update                leave files alone that are newer at DESTINATION
    --delete                remove at DESTINATION what SOURCE does not have
    --max-delete=LIMIT      with --delete: remove nothing if it would be more than this, such as 1000 or 10% (else 50%)
    --bwlimit=SPEED         bytes a second, such as 10M; by time of day "08:00,1M 19:00,off"
    --transactions=NUMBER   requests a second to each service
    --max-transfer=SIZE     begin no further file after so many bytes
    --immutable             never replace a file that differs, but report it
    --backup-dir=DIRECTORY  on DESTINATION's service: where files go instead of being replaced or removed
    --links=WHICH           symbolic links of this computer: inside (those that stay in the tree), follow or skip
    --cluster=ADDRESS       let a Dask cluster move the files: its scheduler, such as tls://head.example.org:8786

  A PATTERN fits the end of a path; with a slash before it, the whole path below SOURCE. * and ? stop at a slash, **
  does not, [a-z] is one of these characters, {jpg,png} one of these texts, {{...}} a regular expression, and a slash
  at the end means a directory with all that is in it. These are the rules of rclone:
    without temporary files and any directory called cache:  --exclude='*.tmp' --exclude='cache/'
    pictures alone, wherever they are:                       --include='*.{jpg,png}'
    only what is in the directory 2026 at the top:           --include='/2026/**'

  With --cluster the workers of a Dask cluster move the files. They need this package in the same version. Each opens
  both services from its own configuration and vault; what a worker lacks is sent to it over tls:// alone. A service of
  kind local must be a directory that all of them share, and paths of this computer cannot take part.

  Every command also takes --output=FORMAT, --traceback, --quiet (no progress) and --progress=SECONDS: in place of bars
  a line of progress on standard error so often (with --output=json a JSON object), on a terminal and elsewhere.
  A name that begins with a dash goes after --, as in: storage delete -- -odd-name

  Examples:
    cms storage config add lab --kind=webdav --set=url=https://dav.example.org/files --set=username=ann
    cms storage put results lab:run7 --recursive
    cms storage --storage=lab list run7 --recursive --output=json
    cms storage copy lab:run7 aws:archive/run7 --recursive --dryrun
    cms storage sync ~/data aws:data --name=nightly --async
    cms storage sync status --name=nightly
    cms storage check lab:run7 aws:archive/run7
""",
    "cloudmesh.storage.api:Storage",
)
