"""The manual of ``vdir``: each usage line is bound to a method of `cloudmesh.vdir.api.Vdir`."""

from cloudmesh.storage.dispatch import Command

VDIR = Command(
    "vdir",
    """::

  Usage:
    vdir mkdir DIR [--parents]
    vdir cd [DIR]
    vdir pwd
    vdir ls [DIR] [--recursive] [--output=OUTPUT]
    vdir tree [DIR]
    vdir search PATTERN [DIR]
    vdir [--parallel=N] add [FILEENDPOINT] [DIR_AND_NAME] [--recursive] [--dryrun]
    vdir [--parallel=N] put SOURCE [DIR_OR_NAME] [--to=SERVICES] [--recursive] [--force] [--links=LINKS] [--dryrun] [options]
    vdir [--parallel=N] get NAME DESTINATION [--recursive] [--force] [--dryrun] [options]
    vdir cat NAME
    vdir [--parallel=N] copy DIR_OR_NAME --to=SERVICES [--recursive] [--force] [--dryrun] [options]
    vdir [--parallel=N] drop DIR_OR_NAME --from=SERVICES [--recursive] [--dryrun] [--yes]
    vdir move SOURCE DESTINATION
    vdir [--parallel=N] delete [DIR_OR_NAME] [--recursive] [--purge] [--accept-loss] [--dryrun] [--yes]
    vdir [--parallel=N] status [DIR_OR_NAME] [--check]
    vdir [--parallel=N] sync [DIR_OR_NAME] [--conflict=CONFLICT] [--accept-loss] [--max-loss=SHARE] [--dryrun]
    vdir history NAME
    vdir [--parallel=N] restore NAME VERSION
    vdir [--parallel=N] verify [DIR_OR_NAME] [--deep] [--repair] [--sample=SHARE] [--bwlimit=SPEED] [--transactions=NUMBER]
    vdir why NAME
    vdir prefer DIR_OR_NAME [SERVICES] [--rank=RANKERS]
    vdir rules show [DIR]
    vdir rules set DIR [--copies=N] [--on=SERVICES] [--not-on=SERVICES] [--locations=N] [--max-monthly-cost=USD] [--deletes=WHAT] [--versions=N] [--versions-age=DURATION]
    vdir rules remove DIR [RULES]
    vdir rules check [DIR]
    vdir url NAME [--expires=DURATION]
    vdir export FILE [DIR]
    vdir import FILE [--dryrun]

  This command manages the virtual directory: one tree of names, each file with replicas on one or more services.

  A name without a slash before it lies below the current virtual directory (cd, or CDIR_CWD for a script). Where a
  name is read, SERVICE:/name means the replica on that service; a name alone means the preferred one. SOURCE of put
  and DESTINATION of get are paths of this computer; FILEENDPOINT is SERVICE:PATH.

    put     uploads files of this computer to services and registers them
    get     downloads; where a replica fails, get and cat go on with the next one, also in the middle of a file
    add     registers files that lie on a service already, where they are: one, a list, a pattern, a tree
    copy    duplicates onto further services; drop takes a replica away, never the last good one
    delete  removes names; with --purge the files on the services too, where another name still has their content
    status  tells how replicas stand; with --check it asks the services first
    sync    compares all replicas with what was last seen; a changed one becomes the new version everywhere, one that is
            missing or wrong is made good again; it succeeds only where every replica is good in the end
    history tells which contents a name had and which were kept; restore makes one of them the newest version
    verify  looks at every replica and every old content that is kept, with --deep at all of its bytes; --repair makes
            replicas that are wrong good again; what was ended before its time goes on when it is asked for again
    why     tells which replica is read, and what decides
    prefer  sets what decides, for a name or all below a directory; without SERVICES and --rank it takes both back
    rules   say where replicas have to be, for a directory and all below it: put without --to follows them, put and copy
            refuse what they forbid, sync copies what is lacking and takes away what is too much

  Of the replicas that are good, one is read whose service is in use and allowed by the rules, where there is one. Among
  those the rankers decide, one after the other: set (the order of SERVICES), speed (as measured while working, and by
  storage measure), location (kilometres from here) and cost (US dollars). Where this computer is, CDIR_PLACE or
  cloudmesh.default.place tells: LATITUDE,LONGITUDE or a region of AWS, Azure, Google or Oracle; where a service is, its
  default.place does, or its region. A service that fails again and again is out of use for a minute, then longer, up to
  an hour: it is not written to, and read only where nothing else is left, until it works or storage measure tried it.

  Options:
    --to=SERVICES        where to, such as aws,lab-nas; put without it goes where the rules want, else a name that is there
                         to where it is, and a new one to the default service
    --from=SERVICES      where from, such as aws,lab-nas
    --recursive          a directory with all that is in it
    --parents            make missing parents; an existing directory is fine
    --force              replace files that are in the way, and names that have other content; what others wrote to a
                         replica is kept as a version
    --links=LINKS        symbolic links of this computer: inside (those that stay in the tree), follow or skip
    --rank=RANKERS       what decides from where to read, such as cost,speed; else set,speed,location,cost
    --purge              remove the real files too; not the last good copy of a content
    --check              ask the services
    --conflict=CONFLICT  who wins where others changed several replicas differently: newest (the default; the others are
                         kept as versions), keep-both (the others become names of their own), ask, or a service; where
                         that has no replica with one of the contents, nothing is done
    --accept-loss        of sync: believe a service that is suddenly empty, or has lost more than --max-loss of its files;
                         of delete --purge: that too, and remove the last copies
    --max-loss=SHARE     how much a service may have lost: a share (25% is the default) or a number, from 10 files on
    --deep               read all bytes and compare their SHA-256
    --repair             write bad, missing and old replicas anew, from good ones
    --sample=SHARE       look only at a share of the files such as 10%, or at a number of them; others every day
    --parallel=N         files under way at once
    --copies=N           at least so many replicas
    --on=SERVICES        a replica on each of these
    --not-on=SERVICES    no replica on any of these
    --locations=N        replicas in at least so many places of the world, 2 for at-least-two-locations; a service's place
                         is its setting default.place
    --max-monthly-cost=USD  what keeping all replicas below may cost a month
    --deletes=WHAT       what a file that others removed on a service means: heal or propagate
    --versions=N         so many old contents of a name are kept
    --versions-age=DURATION  for so long, such as 30d
    --expires=DURATION   how long the URL is good, such as 30m, 12h or 7d
    --dryrun             change nothing, only count
    --yes                do not ask
    --output=OUTPUT      table, json, yaml or csv

  Transfer options:
    --include=PATTERN...   only files that a pattern fits; may be repeated
    --exclude=PATTERN...   no files that a pattern fits; may be repeated
    --filter-from=FILE     rules, one a line: + PATTERN or - PATTERN; the first that fits decides, ! forgets those above
    --max-size=SIZE        only files of at most so much, such as 100K, 10M or 1.5GiB
    --min-size=SIZE        only files of at least so much
    --newer=TIME           only files modified since, such as 2026-01-31, 2026-01-31T18:00, 36h or 7d
    --bwlimit=SPEED        bytes a second, such as 10M; by time of day "08:00,1M 19:00,off"
    --transactions=NUMBER  requests a second to each service
    --max-transfer=SIZE    begin no further file after so many bytes; doing it again goes on

  They choose among the files of a directory; a file named by itself is always taken. A PATTERN is as in storage put: it
  fits the end of a path; with a slash before it, the whole path below SOURCE, NAME or DIR_OR_NAME. What goes to several
  services is counted once for each.

  Every command also takes --output=FORMAT, --traceback, --quiet (no progress) and --progress=SECONDS: in place of bars
  a line of progress on standard error so often (with --output=json a JSON object), on a terminal and elsewhere.
  A name that begins with a dash goes after --, as in: vdir delete -- -odd-name

  Examples:
    cms vdir mkdir /run7
    cms vdir put results /run7 --to=aws,lab-nas --recursive
    cms vdir add aws:archive/*.csv /archive/
    cms vdir ls /run7
    cms vdir status /run7 --check
    cms vdir verify /run7 --deep --sample=10%
    cms vdir why /run7/model.bin
    cms vdir prefer /run7 lab-nas,aws
    cms vdir prefer /archive --rank=cost,speed
    cms vdir rules set /run7 --copies=2 --not-on=box
    cms vdir get /run7 here --recursive
    cms vdir sync /run7 --dryrun
    cms vdir history /run7/model.bin
    cms vdir drop /run7 --from=aws --recursive
""",  # noqa: E501 - a usage is one line
    "cloudmesh.vdir.api:Vdir",
)
