"""NGX: how nginx balances the API servers."""

import ipaddress
from collections.abc import Iterator

from generator.handwritten import Files, Word, integer
from generator.handwritten.balancers import API_PORT, LOOPBACK, api, balancers, endpoint, scopes, servers
from generator.handwritten.nginx import whole
from generator.lint import Found, file_rule
from generator.wording import said


@file_rule("NGX014", "warning")
def no_connect_timeout(files: Files) -> Iterator[Found]:
    """
    No time limit for connecting to an API server.

    Why it hurts: nginx waits 60 s for a host that is off before it tries the next one; kubectl and the kubelets give up long before. Of
    three API servers every third new connection ends so until the host counts as failed, and again after each fail_timeout.

    Example: a stream server with `proxy_pass backend;` and no `proxy_connect_timeout`.

    Use instead: `proxy_connect_timeout 1s;`, 3s at most.

    Source: nginx, ngx_stream_proxy_module (default 60s); measured: 60.06 s against 2.01 s (checklist row 12).
    """
    for one in api(files):
        if len(one.servers) > 1 and one.says("proxy_connect_timeout") is None and one.known:
            yield Found(one.target, "no proxy_connect_timeout: nginx waits 60 s for a host that is off", "add proxy_connect_timeout 1s")


@file_rule("NGX015", "info")
def no_zone(files: Files) -> Iterator[Found]:
    """
    Workers that don't share what they know of failed servers.

    Why it hurts: without a zone each worker counts failures for itself, so that a dead API server costs as many slow connections as there
    are workers, and least_conn and max_conns see one worker's connections.

    Example: `worker_processes auto;` and `upstream backend {` without `zone`.

    Use instead: `zone apiserver 64k;` in the upstream.

    Source: nginx, ngx_stream_upstream_module, *zone*; checklist rows 10 and 11.
    """
    for one in api(files):
        workers = one.config.root.one("worker_processes")
        several = workers is not None and (workers.value == "auto" or (integer(workers.value) or 0) > 1)
        if several and one.upstream and len(servers(one.upstream)) > 1 and not one.upstream.one("zone") and one.answering_known:
            name = one.upstream.args[0]
            yield Found(name, said("upstream {name} has no zone", name=name), "add a zone of 64k, which all workers share")


@file_rule("NGX016", "warning")
def never_failed(files: Files) -> Iterator[Found]:
    """
    A server that never counts as failed.

    Why it hurts: with max_fails=0 nginx goes on sending connections to an API server that is gone; each of them waits for the connect
    timeout before the next server is tried.

    Example: `server 192.168.1.25:6443 max_fails=0;`.

    Use instead: `max_fails=2 fail_timeout=5s`.

    Source: nginx, ngx_stream_upstream_module, *max_fails*.
    """
    for one in api(files):
        words = [word for server in one.servers for word in server.args[1:] if word == "max_fails=0"]
        if words and len(one.servers) > 1:
            yield Found(words[0], "max_fails=0 never marks a server as failed", "write max_fails=2 fail_timeout=5s")


@file_rule("NGX017", "warning")
def one_server(files: Files) -> Iterator[Found]:
    """
    An upstream of one API server.

    Why it hurts: there is no other to go to: the VIP moves between hosts that all depend on this one API server. nginx doesn't even count
    its failures.

    Example: `upstream apiserver { server 192.168.1.25:6443; }` before three control planes.

    Use instead: a server for each control plane, on each load balancer.

    Source: nginx, ngx_stream_upstream_round_robin.c (*single*); checklist row 11.
    """
    for one in api(files):
        if one.upstream is not None and len(one.servers) == 1 and one.answering_known:
            what = said("upstream {name} has one server only", name=one.target)
            yield Found(one.servers[0].args[0], what, "add a server for each control plane")


@file_rule("NGX018", "error")
def no_next_server(files: Files) -> Iterator[Found]:
    """
    nginx may not try a second API server.

    Why it hurts: a connection that is sent to a dead API server ends there although others are well: of three, every third one fails until
    the server is marked as failed.

    Example: `proxy_next_upstream off;`, or `proxy_next_upstream_tries 1;`.

    Use instead: `proxy_next_upstream on;`, which is the default, and no limit of tries, or one of at least two.

    Source: nginx, ngx_stream_proxy_module, *proxy_next_upstream*, *proxy_next_upstream_tries*.
    """
    for one in api(files):
        for name, value in (("proxy_next_upstream", "off"), ("proxy_next_upstream_tries", "1")):
            node = one.says(name)
            if len(one.servers) > 1 and node is not None and node.value == value:
                what = said("{name} {value} keeps nginx from trying another server", name=name, value=value)
                yield Found(node.args[0], what, "remove the line")


@file_rule("NGX019", "warning")
def server_twice(files: Files) -> Iterator[Found]:
    """
    A server stands twice in one upstream.

    Why it hurts: nginx takes it silently: the host gets twice the connections, and the one that was meant in its place gets none.

    Example: `server 192.168.1.26:6443;` in two lines, the second one copied for 192.168.1.27.

    Use instead: one line for each control plane; for an uneven share, `weight=`.

    Source: measured with nginx 1.22.1 (accepted without a warning).
    """
    for config in whole(files):
        for scope in scopes(config):
            for upstream in scope.all("upstream"):
                seen: dict[str, Word] = {}
                for server in servers(upstream):
                    word = server.args[0]
                    if seen.setdefault(word.lower(), word) is not word:
                        first = (seen[word.lower()].related("the first one"),)
                        yield Found(word, said("server {name} stands twice in the upstream", name=word), "write the address meant", first)


@file_rule("NGX020", "warning")
def named_server(files: Files) -> Iterator[Found]:
    """
    An API server by name.

    Why it hurts: nginx asks for the address once, when it starts, and doesn't start at all when nobody answers. After a power cut DNS may
    need the cluster that needs nginx.

    Example: `server master-1.example.com:6443;`.

    Use instead: addresses; or names that stand in the host's own /etc/hosts.

    Source: measured with nginx 1.22.1 ("host not found in upstream"); nginx, ngx_stream_upstream_module, *resolve*.
    """
    for one in api(files):
        host = one.config.file.host
        local = {name for file, root in files.of("hosts") if file.host in (host, "") for line in root.children or () for name in line.args}
        for server in one.servers:
            name = endpoint(server.args[0])[0]
            known = name in LOOPBACK or name in {word.lower() for word in local} or "resolve" in server.args
            if not known and not name.startswith("unix") and not _address(name):
                what = said("server {name} is a name, which nginx resolves once, when it starts", name=name)
                yield Found(server.args[0], what, "write the address, or add the name to the host's /etc/hosts")


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@file_rule("NGX021", "error")
def loop(files: Files) -> Iterator[Found]:
    """
    nginx proxies to itself.

    Why it hurts: a connection goes round between nginx and nginx until it has no files or ports left; and where the API server is on the
    host, one of the two can't have the port.

    Example: `listen 6443;` and `server 127.0.0.1:6443;`.

    Use instead: another port to listen on, such as 16443.

    Source: nginx, ngx_stream_core_module, *listen*; kubernetes/kubeadm#2472.
    """
    for one in balancers(files):
        listens = {endpoint(word): word for word in one.listens}
        for word in one.answering:
            host, port = endpoint(word)
            listen = listens.get((host, port)) or (listens.get(("*", port)) if host in LOOPBACK else None)
            if port is not None and listen is not None:
                place = (listen.related("where nginx listens"),)
                yield Found(word, said("{name} is nginx itself", name=word), "listen on another port, such as 16443", place)


@file_rule("NGX023", "warning")
def http_proxy(files: Files) -> Iterator[Found]:
    """
    The API behind an HTTP proxy.

    Why it hurts: the http block ends TLS, so that the API server never sees the certificate by which kubelets, controllers and admins say
    who they are; kubectl exec needs an upgraded connection besides.

    Example: `location / { proxy_pass https://192.168.1.25:6443; }` in http.

    Use instead: a stream server, which passes TLS through.

    Source: Kubernetes, authentication (*X509 client certificates*); nginx, ngx_stream_proxy_module.
    """
    for config in whole(files):
        named = {str(node.value): servers(node) for node in config.root.walk("upstream")}
        for location in config.root.walk("location"):
            for node in location.all("proxy_pass"):
                scheme, _, rest = (node.value or "").partition("://")
                target = rest.partition("/")[0]
                answering: list[str] = [server.args[0] for server in named.get(target, ())] or [target]
                if node.value and scheme in ("http", "https") and any(endpoint(a)[1] == API_PORT for a in answering):
                    yield Found(node.value, "an HTTP proxy before the API server hides client certificates", "use a stream server")


@file_rule("NGX024", "error")
def tls_ended(files: Files) -> Iterator[Found]:
    """
    nginx ends TLS before the API server.

    Why it hurts: the client's certificate stays with nginx, and the API server knows nobody: no kubelet registers. Without proxy_ssl it
    gets plain text on a TLS port besides.

    Example: `listen 16443 ssl;` in a stream server with `proxy_pass apiserver;`.

    Use instead: `listen 16443;`.

    Source: nginx, ngx_stream_ssl_module; Kubernetes, authentication (*X509 client certificates*).
    """
    for one in api(files):
        for node in one.server.all("listen"):
            for word in node.args[1:]:
                if word == "ssl":
                    yield Found(word, "nginx ends TLS before the API server, which needs the client's certificate", "remove ssl")


@file_rule("NGX025", "error")
def proxy_protocol(files: Files) -> Iterator[Found]:
    """
    A PROXY header for the API server.

    Why it hurts: kube-apiserver doesn't know the PROXY protocol: it takes the header for a broken TLS handshake and closes every
    connection.

    Example: `proxy_protocol on;`.

    Use instead: remove it; `$remote_addr` in nginx's own log names the clients.

    Source: nginx, ngx_stream_proxy_module, *proxy_protocol*; kubernetes, kube-apiserver (no such option).
    """
    for one in api(files):
        node = one.says("proxy_protocol")
        if node is not None and node.value == "on":
            yield Found(node.args[0], "the API server doesn't know the PROXY protocol", "remove proxy_protocol")
