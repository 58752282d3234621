curl -sf -m 2 http://127.0.0.1:16444/ || exit 1
