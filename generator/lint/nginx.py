"""NGX: whether nginx takes its files: what stands where it may, and what is missing."""

import re
from collections.abc import Iterator
from itertools import pairwise

from generator.handwritten import Files, Node, Word
from generator.handwritten.balancers import endpoint, included, scopes, servers
from generator.handwritten.nginx import Config, whole
from generator.lint import Found, essay, file_rule
from generator.wording import said

essay(
    "NGX001",
    """nginx can't read the file.

    Why it hurts: nginx doesn't start with it, and a running one keeps what it has until the next boot.

    Example: `upstream apiserver { server 192.168.1.25:6443` without the semicolon and the closing brace.

    Use instead: a semicolon after each directive, a brace for each brace, a quote for each quote; `nginx -t` before each reload.

    Source: nginx, ngx_conf_file.c (ngx_conf_read_token).
    """,
)

# What nginx learned to take in stream blocks after crossplane's tables were made: 1.19.3 (set), 1.25.5 (server_name), 1.27.3 (resolver).
_NEWER = re.compile(r"set|server_names?(_hash_.*)?|resolver(_timeout)?|(proxy_)?ssl_.*|error_log|status_zone")
# Directives that nobody writes as an argument, at the start of a line.
_DIRECTIVES = frozenset((
    "access_log", "error_log", "events", "http", "include", "least_conn", "listen", "load_module", "log_format", "pid",
    "proxy_connect_timeout", "proxy_next_upstream", "proxy_pass", "proxy_socket_keepalive", "proxy_timeout", "server", "stream", "upstream",
    "worker_connections", "worker_processes",
))  # fmt: skip
_PARAMETER = re.compile(
    r"weight=0*[1-9][0-9]*|max_(fails|conns)=[0-9]+|fail_timeout=(?=[0-9])([0-9]+[yMwdhms])*[0-9]*|backup|down|resolve|drain|(service|slow_start|route)=.+"
)
_HTTP_VARIABLE = re.compile(
    r"\$\{?(body_bytes_sent|request(?:_time|_uri|_method|_length)?|remote_user|uri|document_uri|args|query_string|host|scheme"
    r"|upstream_(?:response_time|response_length|status|header_time)|(?:sent_|upstream_)?http_[a-z0-9_]+|(?:arg|cookie)_[a-z0-9_]+)(?![A-Za-z0-9_])"
)


def _directives(config: Config) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Every directive outside of http, with the blocks around it."""
    if config.main:
        for node in config.root.children or ():
            yield (), node
            if node.name == "events":
                yield from ((("events",), inner) for inner in node.children or ())
    for scope in scopes(config):
        for node in scope.children or ():
            yield ("stream",), node
            if node.name in ("server", "upstream"):
                yield from ((("stream", str(node.name)), inner) for inner in node.children or ())


def _refused(context: tuple[str, ...], node: Node, *, arguments: bool) -> str:
    """What nginx says against *node* in *context*: against its place, or against its *arguments*; empty where it takes it."""
    from crossplane.analyzer import analyze
    from crossplane.errors import NgxParserDirectiveError

    statement = {"directive": str(node.name), "args": list(map(str, node.args)), "line": 0}
    term = ";" if node.children is None else "{"
    try:
        analyze(None, statement, term, context, check_ctx=True, check_args=arguments)
    except NgxParserDirectiveError as error:
        return str(error.strerror)
    return ""


@file_rule("NGX002", "error")
def misplaced(files: Files) -> Iterator[Found]:
    """
    A directive where nginx doesn't take it.

    Why it hurts: nginx says "directive is not allowed here" and doesn't start. A stream block stands beside http, never inside it; files of
    conf.d are inside it, because the packages' nginx.conf includes them there.

    Example: `/etc/nginx/conf.d/apiserver.conf` with `stream {`; `worker_shutdown_timeout` in a stream block.

    Use instead: the stream block in nginx.conf itself, or in a file that nginx.conf includes outside of http.

    Source: nginx, ngx_stream_core_module (context of *stream*: main); measured with nginx 1.22.1.
    """
    for config in whole(files):
        for http in config.root.all("http"):
            for node in http.walk("stream", "events", "http"):
                if node.children is not None:
                    what = said("{name} inside of http", name=node.name)
                    yield Found(node.name, what, "move it out of http, to the top of nginx.conf", (http.name.related("the http block"),))
        for context, node in _directives(config):
            if _NEWER.fullmatch(node.name[:60]) is None and _refused(context, node, arguments=False):
                inside = said("{name} is not allowed in {place}", name=node.name, place=" ".join(context))
                what = inside if context else said("{name} is not allowed at the top", name=node.name)
                yield Found(node.name, what, "move it to the block that it belongs to")


@file_rule("NGX003", "error")
def no_events(files: Files) -> Iterator[Found]:
    """
    An nginx.conf without an events block.

    Why it hurts: nginx refuses a configuration without one (no "events" section in configuration). Whoever replaces nginx.conf by a stream
    block alone has taken it away.

    Example: an `/etc/nginx/nginx.conf` that is `stream { ... }` and nothing else.

    Use instead: `events { worker_connections 8192; }` at the top of nginx.conf.

    Source: nginx, ngx_event.c; measured with nginx 1.22.1; checklist row 7.
    """
    for config in whole(files):
        # What is included from folders of modules loads them, and no more.
        elsewhere = any("modules" not in (node.value or "") for node in config.root.all("include"))
        if config.main and config.root.children and config.root.one("events") is None and not elsewhere:
            yield Found(config.root.children[0].name, "nginx.conf without an events block", "add events { worker_connections 8192; }")


@file_rule("NGX004", "warning")
def stream_in_conf_d(files: Files) -> Iterator[Found]:
    """
    A stream block in a folder that nginx.conf includes inside of http.

    Why it hurts: the nginx.conf of every package includes conf.d (Debian's sites-enabled too) in its http block, where nginx refuses a
    stream block and doesn't start.

    Example: `/etc/nginx/conf.d/apiserver.conf` with `stream {`, and no nginx.conf beside it that says otherwise.

    Use instead: a folder of its own such as `/etc/nginx/stream-conf.d/`, included at the top of nginx.conf.

    Source: nginx, Debian and RHEL packages, nginx.conf; measured: "stream" directive is not allowed here.
    """
    for config in whole(files):
        if re.search(r"/(conf\.d|sites-enabled|default\.d)/[^/]*$", config.file.path):
            for node in config.root.all("stream"):
                yield Found(node.name, "a stream block in a folder for http", "include it at the top of nginx.conf from another folder")


@file_rule("NGX005", "error")
def arguments(files: Files) -> Iterator[Found]:
    """
    Arguments that nginx refuses.

    Why it hurts: nginx doesn't start; a reload fails, and who doesn't look goes on with the former configuration until the next boot.

    Example: `proxy_next_upstream error timeout;` in a stream block (its values are those of http; here it is on or off).

    Use instead: what the manual of the stream modules says; those of http differ.

    Source: nginx, ngx_stream_proxy_module; checked against the argument counts of crossplane's tables.
    """
    for config in whole(files):
        for context, node in _directives(config):
            if context and not _run_over(node) and not _refused(context, node, arguments=False):
                reason = _refused(context, node, arguments=True)
                if "on" in reason.split('"'):
                    yield Found(node.name, said("{name} takes on or off", name=node.name), "write on or off")
                elif "opening" in reason:
                    yield Found(node.name, said("{name} has no block", name=node.name), "write what belongs to it between braces")
                elif reason:
                    yield Found(node.name, said("{name} with too many or too few arguments", name=node.name), "write one value for each")


def _run_over(node: Node) -> Word | None:
    """The last word before a line that begins with a directive, although *node* has not ended."""
    words = (node.name, *node.args)
    for before, word in pairwise(words):
        if word.plain and word in _DIRECTIVES and word.spot.at.line > before.spot.at.line:
            return before
    return None


@file_rule("NGX006", "error")
def no_semicolon(files: Files) -> Iterator[Found]:
    """
    A directive runs on into the next line.

    Why it hurts: nginx reads the next directive as an argument of this one and refuses the file with a message about the wrong line.

    Example: `server 192.168.1.25:6443` without a semicolon, above `server 192.168.1.26:6443;`.

    Use instead: a semicolon at the end of each directive.

    Source: nginx, ngx_conf_file.c; measured with nginx 1.22.1 ("invalid parameter").
    """
    for config in whole(files):
        for _, node in _directives(config):
            word = _run_over(node)
            if word is not None:
                yield Found(word, said("no semicolon after {name}", name=node.name), "end the directive with a semicolon")


@file_rule("NGX007", "error")
def no_port(files: Files) -> Iterator[Found]:
    """
    A server without a port in a stream block.

    Why it hurts: stream has no port of its own as http has 80: nginx says "no port in upstream" and doesn't start. The same holds for a
    proxy_pass to an upstream that isn't there.

    Example: `server 192.168.1.25;`, or `proxy_pass backend;` above `upstream backends {`.

    Use instead: `server 192.168.1.25:6443;`, and the upstream's name as it is written there.

    Source: nginx, ngx_stream_upstream.c, ngx_stream_proxy_module.c ("no port in upstream").
    """
    for config in whole(files):
        for scope in scopes(config):
            upstreams = {node.value for node in scope.all("upstream")}
            for node in scope.all("upstream"):
                for server in servers(node):
                    if _portless(server.args[0]) and not any(word.startswith("service=") for word in server.args):
                        yield Found(server.args[0], said("server {name} has no port", name=server.args[0]), "add the port, such as :6443")
            for server in scope.all("server"):
                target = server.one("proxy_pass")
                if target is None or target.value is None or target.value in upstreams or not _portless(target.value):
                    continue
                if scope is not config.root and not included(scope, server):
                    yield Found(
                        target.value,
                        said("no upstream is called {name}", name=target.value),
                        "write the name of an upstream of this stream block, or an address with its port",
                    )


def _portless(word: Word) -> bool:
    return "$" not in word and not word.startswith("unix:") and (word.isdecimal() or endpoint(word)[1] is None)


@file_rule("NGX008", "error")
def twice(files: Files) -> Iterator[Found]:
    """
    A block that may stand once only stands twice.

    Why it hurts: nginx says "is duplicate" or "duplicate upstream" and doesn't start, which is seen when the second file comes to the host.

    Example: two files of stream-conf.d, each with its own `stream {` around it.

    Use instead: one stream block in nginx.conf that includes the files, and upstreams of different names in them.

    Source: nginx, ngx_stream.c ("is duplicate"), ngx_stream_upstream.c ("duplicate upstream"); measured with nginx 1.22.1.
    """
    for config in whole(files):
        for name in ("events", "stream", "http"):
            blocks = [node for node in config.root.all(name) if node.children is not None]
            for node in blocks[1:]:
                first = (blocks[0].name.related("the first one"),)
                yield Found(node.name, said("a second {name} block", name=name), "keep one, with all that belongs there", first)
        for scope in scopes(config):
            seen: dict[str, Word] = {}
            for node in scope.all("upstream"):
                if node.value is not None and seen.setdefault(node.value, node.value) is not node.value:
                    first = (seen[node.value].related("the first one"),)
                    yield Found(node.value, said("a second upstream called {name}", name=node.value), "give it another name", first)


@file_rule("NGX009", "error")
def parameters(files: Files) -> Iterator[Found]:
    """
    A parameter of a server that nginx refuses.

    Why it hurts: nginx says "invalid parameter" and doesn't start.

    Example: `server 192.168.1.25:6443 max_fail=2;`, `weight=0`, `fail_timeout=500ms`, `max_fails = 2` with blanks.

    Use instead: `weight=1`, `max_fails=2`, `fail_timeout=5s`, `max_conns=`, `backup`, `down`; to take a server out, `down`.

    Source: nginx, ngx_stream_upstream_module, *server*.
    """
    for config in whole(files):
        for scope in scopes(config):
            for upstream in scope.all("upstream"):
                for server in servers(upstream):
                    bad = next((word for word in server.args[1:] if "$" not in word and not _PARAMETER.fullmatch(word)), None)
                    if bad is not None and not _run_over(server):
                        what = said("nginx has no server parameter {name}", name=bad)
                        yield Found(bad, what, "write weight=, max_fails=, fail_timeout= (in seconds or longer), backup or down")


@file_rule("NGX010", "error")
def backups(files: Files) -> Iterator[Found]:
    """
    Backup servers that nginx refuses.

    Why it hurts: an upstream of backups alone has "no servers", and the methods hash and random know none: nginx doesn't start.

    Example: `hash $remote_addr;` above `server 192.168.1.26:6443 backup;`.

    Use instead: `least_conn`, or no method, with backups; at least one server that is none.

    Source: nginx, ngx_stream_upstream_round_robin.c; measured with nginx 1.22.1.
    """
    for config in whole(files):
        for scope in scopes(config):
            for upstream in scope.all("upstream"):
                spare = [server for server in servers(upstream) if "backup" in server.args]
                method = next((node for node in upstream.children or () if node.name in ("hash", "random")), None)
                if spare and method is not None and method.name.spot.at.line <= spare[0].name.spot.at.line:
                    word = next(word for word in spare[0].args if word == "backup")
                    what = said("backup beside {method}", method=method.name)
                    yield Found(word, what, "use least_conn, or no backup", (method.name.related("the method"),))
                elif spare and len(spare) == len(servers(upstream)) and not included(upstream) and upstream.value is not None:
                    yield Found(
                        upstream.value, said("upstream {name} has backups only", name=upstream.value), "take backup from one of them"
                    )


@file_rule("NGX011", "error")
def log_format(files: Files) -> Iterator[Found]:
    """
    A log format that the stream block doesn't have.

    Why it hurts: the formats of http (main, combined) are unknown in stream, one that stands below the access_log is too, and there is no
    default: nginx doesn't start.

    Example: `access_log /var/log/nginx/control-plane.log main;` in a stream block, `log_format main` in http.

    Use instead: a `log_format` of its own in the stream block, with the variables of stream, above the access_log.

    Source: nginx, ngx_stream_log_module; measured with nginx 1.22.1 ("unknown log format", "log format is not specified").
    """
    for config in whole(files):
        for scope in scopes(config):
            if scope is config.root or included(scope):
                continue
            formats: set[Word | None] = set()
            # nginx reads on from the top: a format counts for what stands below it.
            for child in scope.children or ():
                if child.name == "log_format":
                    formats.add(child.value)
                for node in (child,) if child.name == "access_log" else child.all("access_log"):
                    if not node.args or node.args[0] == "off":
                        continue
                    if len(node.args) == 1:
                        yield Found(node.args[0], "an access log of stream without a format", "name a log_format of this stream block")
                    elif node.args[1] not in formats:
                        what = said("the stream block has no log format {name} above this line", name=node.args[1])
                        yield Found(node.args[1], what, "add a log_format of this name above it in the stream block")


@file_rule("NGX012", "error")
def http_variable(files: Files) -> Iterator[Found]:
    """
    A variable of http in a log format of stream.

    Why it hurts: stream sees connections, not requests: nginx says "unknown variable" and doesn't start.

    Example: `log_format main '$remote_addr "$request" $body_bytes_sent';` in a stream block.

    Use instead: `$remote_addr $upstream_addr [$time_iso8601] $status $session_time $bytes_sent $bytes_received`.

    Source: nginx, ngx_stream_core_module and ngx_stream_upstream_module, *Embedded Variables*.
    """
    for config in whole(files):
        for scope in scopes(config):
            own = {word for node in scope.children or () if node.name != "log_format" for word in node.args if word.startswith("$")}
            for node in scope.all("log_format"):
                for word in node.args[1:]:
                    found = next((match[1] for match in _HTTP_VARIABLE.finditer(word) if "$" + match[1] not in own), None)
                    if found:
                        yield Found(word, said("stream has no variable ${name}", name=found), "use a variable of stream")


@file_rule("NGX013", "info")
def no_module(files: Files) -> Iterator[Found]:
    """
    A stream block and nothing that loads the module.

    Why it hurts: Debian and the RHEL family build stream as a module; without it nginx says unknown directive "stream" and doesn't start.
    A build that has it compiled in, such as nginx.org's and its container image, takes the file as it is.

    Example: an nginx.conf that begins with `stream {`.

    Use instead: the package (libnginx-mod-stream, nginx-mod-stream) and one line: `include /etc/nginx/modules-enabled/*.conf;` on Debian,
    `include /usr/share/nginx/modules/*.conf;` on RHEL, or `load_module`; never two of them.

    Source: Debian and RHEL packages; measured with nginx 1.22.1; checklist rows 5 and 7.
    """
    for config in whole(files):
        stream = config.root.one("stream")
        loaded = any("stream" in (node.value or "") for node in config.root.all("load_module")) or any(config.root.all("include"))
        if config.main and stream is not None and not loaded:
            yield Found(
                stream.name,
                "nothing loads the stream module, which most distributions' nginx needs",
                "add load_module or the distribution's include of modules",
            )
