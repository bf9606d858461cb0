"""Runs one command: what was typed goes to its API method, the result to stdout, an error in one line to stderr.

Exit codes: 0 done, 1 failed, 2 typed wrongly, 130 interrupted, 141 nobody reads the output any longer.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from cloudmesh.storage.errors import Refused, StorageError, UsageError
from cloudmesh.storage.output import Format, NobodyReads, Output, Printed, visible, write
from cloudmesh.storage.usage import Match, Operation, Usage, Value

if TYPE_CHECKING:
    from cloudmesh.storage.progress import Display
    from cloudmesh.storage.transfer.events import Event, Observer

INTERRUPTED = 130
_PATIENCE_S = 3.0
_told = threading.Event()
NOBODY_READS = 141
_LATELY = 50
LOGGERS = ("cloudmesh.storage", "cloudmesh.vdir", "cloudmesh.cdir")


@dataclass(frozen=True)
class Command:
    """A command with its manual and its API.

    Attributes:
        name: the command's name, with which every usage line begins.
        manual: the text with the docopt usage, beginning with ``::`` as every cms command's.
        api: ``module:Class``, imported only once a usage line has matched.
        make: makes an object with the API's methods from the class and what it is made with; the class itself where
            None.
    """

    name: str
    manual: str
    api: str
    make: Callable[[type, dict[str, Any]], Any] | None = None

    @cached_property
    def usage(self) -> Usage:
        """The operations in the manual."""
        return Usage(self.name, self.manual)

    def api_class(self) -> type:
        """Import and return the API class."""
        from cloudmesh.storage.binding import load

        return load(self.api)

    def run(self, argv: Sequence[str], program: str = "cms") -> int:
        """Do what ``argv`` (without the command's name) says and return the exit code; raises nothing.

        Args:
            argv: the arguments as typed.
            program: ``cms`` or ``cdir``, for the hint where help is found.
        """
        return guarded(lambda: self._run(list(argv), program), "--traceback" in argv)

    def _run(self, argv: list[str], program: str) -> int:
        options = argv[: argv.index("--")] if "--" in argv else argv
        if "-h" in options or "--help" in options or argv[:1] == ["help"]:
            return show(self.help(argv[1:] if argv[0] == "help" else argv))
        try:
            match = self.usage.match(argv)
        except UsageError as error:
            return self._complain(error, self.usage.related(argv), program)
        try:
            form = _format(match)
            return self._call(match, form, _display(match, form))
        except UsageError as error:
            return self._complain(error, (match.operation,), program)

    def help(self, argv: Sequence[str] = ()) -> str:
        """Return the manual; where ``argv`` holds words of this command, only the usage and the options of those."""
        if found := self.usage.related([one for one in argv if not one.startswith("-")]):
            lines = "".join(f"  {one.line}\n" for one in found)
            options = "".join(f"  {line}\n" for line in self.usage.described(found))
            return f"Usage:\n{lines}" + (f"\nOptions:\n{options}" if options else "")
        return self.usage.manual.strip().removeprefix("::").strip("\n") + "\n"

    def _complain(self, error: UsageError, operations: Sequence[Operation], program: str) -> int:
        _say(f"error: {visible(str(error))}")
        for operation in operations:
            _say(f"usage: {operation.line}")
        _say(f"see: {program} help {self.name}")
        return error.exit_code

    def _call(self, match: Match, form: Format, display: Callable[[], Display] | None) -> int:
        from cloudmesh.storage.binding import bind, constructor_parameters, is_destructive

        api_class = self.api_class()
        with ExitStack() as stack:
            stack.enter_context(_warnings())
            call = bind(match, api_class)
            class_values = dict(call.class_values)
            progress = stack.enter_context(_Progress(display))
            if "observer" in constructor_parameters(api_class) and display is not None:
                class_values["observer"] = progress
            output = Output(sys.stdout, progress.close)
            api: Any = api_class(**class_values) if self.make is None else self.make(api_class, class_values)
            if hasattr(api, "__exit__"):
                stack.enter_context(api)
            owner = api
            for group in call.target.groups:
                owner = getattr(owner, group)
            method = getattr(owner, call.target.name)

            sure = match.values.get("--yes") or call.method_values.get("dryrun")
            if is_destructive(call.target.method) and not sure:
                result = method(**call.method_values, dryrun=True)
                if not getattr(result, "single", False):  # one thing, named by the user, needs no question
                    progress.pause()
                    plan = _show_plan(result)
                    if not plan.rows or plan.failed:
                        return int(plan.failed)
                    if not _confirmed(match.operation):
                        _say("nothing was changed")
                        return 1
            printed = write(method(**call.method_values), form, output, call.target.returns)
            output.flush()
            quiet = form != "table" or match.values.get("--quiet")
            if not printed.rows and not quiet and (text := getattr(method, "when_empty", "")):
                _say(text)
            return int(printed.failed)


def stand_in_for_closed_streams() -> None:
    """Open what the shell has closed (``>&-``), before a file of ours gets that number and is written into by print.

    Nothing can be read from it, and standard output still cannot be written: a result that is lost is told.
    """
    closed = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
    for name, access, mode in closed:
        if getattr(sys, name) is None:
            # the lowest free number, which is that of the closed stream
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))


def end_soon_when_interrupted() -> None:
    """Let Ctrl-C end this process within seconds, for programs that do one command and end.

    As ever it raises KeyboardInterrupt, and what is under way ends in good order; but a thread in a call to a service
    that is slow or does not answer is not waited for longer than `_PATIENCE_S`.
    """

    def end() -> None:
        time.sleep(_PATIENCE_S)
        if not _told.is_set():
            _say("interrupted")
        os._exit(INTERRUPTED)

    def interrupted(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        threading.Thread(target=end, daemon=True).start()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)


def guarded(run: Callable[[], int], traceback: bool = False) -> int:
    """Return what ``run()`` returns, or after any failure the exit code that tells it; one line on stderr.

    Args:
        run: the work; takes nothing, returns the exit code.
        traceback: print Python's traceback too (source lines only, no values).
    """
    try:
        return run()
    except KeyboardInterrupt as error:
        _told.set()
        what = f"interrupted: {visible(str(error))}" if str(error) else "interrupted"
        _say(f"\n{what}" if sys.stderr.isatty() else what)  # there ^C stands on the line already
        return INTERRUPTED
    except NobodyReads:
        return NOBODY_READS
    except (Exception, SystemExit) as error:  # a library's SystemExit must not end the interactive shell
        if traceback:
            import traceback as tracebacks

            _say("".join(visible(line) + "\n" for line in tracebacks.format_exc().splitlines()).rstrip("\n"))
        if isinstance(error, StorageError):
            _say(f"error: {visible(str(error))}")
            return error.exit_code
        advice = "" if traceback else " (run again with --traceback to see where)"
        _say(f"error: internal error: {type(error).__name__}: {visible(str(error))}{advice}")
        return 1


def show(text: str) -> int:
    """Print a manual on stdout and return the exit code."""
    output = Output(sys.stdout)
    output.write(text)
    output.flush()
    return 0


def _show_plan(plan: Any) -> Printed:
    """Print what a dry run returned; on stderr, as it belongs to the question and not to the result."""
    return write(plan, "table", Output(sys.stderr)) if plan else Printed()


def _say(text: str) -> None:
    """Write a line to stderr; where nobody reads that either, go on."""
    with suppress(NobodyReads, StorageError):
        output = Output(sys.stderr)
        output.write(text + "\n")
        output.flush()


def _format(match: Match) -> Format:
    from cloudmesh.storage.binding import convert

    form: Format = convert("--output", match.values.get("--output") or "table", Format)
    return form


def _confirmed(operation: Operation) -> bool:
    """Ask on the terminal whether to go on."""
    if not sys.stdin.isatty():
        words = " ".join(operation.line.split()[:1] + list(operation.words))
        raise Refused(words, "nothing was changed: nobody can be asked", "repeat it with --yes, or look with --dryrun")
    sys.stderr.write("Proceed? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:  # nobody ended the line
        _say("")
    return answer.strip().lower() in ("y", "yes")


def _display(match: Match, form: Format) -> Callable[[], Display] | None:
    """How the progress is told: not at all with ``--quiet``, and unasked only on a terminal, to a person."""
    every = _seconds(match.values.get("--progress"))
    if match.values.get("--quiet"):
        return None

    def lines() -> Display:
        from cloudmesh.storage.progress.lines import Lines

        return Lines(every, _say, as_json=form == "json")

    def bars() -> Display:
        from cloudmesh.storage.progress.bars import Bars

        return Bars()

    if every:
        return lines
    return bars if form == "table" and sys.stderr.isatty() else None


def _seconds(typed: Value) -> float:
    """What was typed for ``--progress``; 0 where nothing was."""
    if typed is None:
        return 0
    from cloudmesh.storage.binding import Duration, convert

    every: float = convert("--progress", typed, Duration)
    if not 0 < every <= threading.TIMEOUT_MAX:
        raise UsageError("--progress", f"{typed!r} is not allowed", "allowed is a duration such as 10s or 1m, above 0")
    return every


class _Progress:
    """An observer that tells of the progress from the first event on, until something is printed.

    Args:
        display: begins to tell; None where nothing is told.
    """

    def __init__(self, display: Callable[[], Display] | None) -> None:
        self._lock = threading.Lock()
        self._begin = display
        self._display: Display | None = None
        self._observe: Observer | None = None

    def __call__(self, event: Event) -> None:
        if (observe := self._observe) is None:
            with self._lock:
                if self._begin is None:
                    return
                if self._display is None:
                    self._display = self._begin()
                observe = self._observe = self._display.observe
        observe(event)

    def pause(self) -> None:
        """Leave the screen to others until the next event."""
        self._stop(final=False)

    def close(self) -> None:
        """Leave the screen to others for good."""
        self._begin = None
        self._stop(final=True)

    def _stop(self, *, final: bool) -> None:
        with self._lock:
            display, self._display, self._observe = self._display, None, None
        if display is not None:
            display.close(final=final)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _warnings() -> Iterator[None]:
    """Print what our own modules warn of as one line on stderr; not again what was said a moment ago."""
    import logging
    from collections import deque

    lately: deque[str] = deque(maxlen=_LATELY)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = f"{record.levelname.lower()}: {visible(record.getMessage())}"
            if text not in lately:
                lately.append(text)
                _say(text)

    handler = Lines(logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def completions(usage: Usage, line: str, text: str) -> list[str]:
    """Return how the word ``text`` at the end of ``line`` (which begins with the command's name) may go on."""
    typed = line.split()[1:]
    if text and typed and typed[-1].endswith(text):
        del typed[-1]
    words = tuple(one for one in typed if not one.startswith("-"))
    found: set[str] = set()
    for operation in usage.operations:
        known = min(len(words), len(operation.words))
        if operation.words[:known] == words[:known]:
            found.update(operation.words[known : known + 1])
            found.update(option.name + ("=" if option.takes_value else "") for option in operation.options)
    return sorted(one for one in found if one.startswith(text))
