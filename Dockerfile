# marqueue in a container: a build stage, and a runtime stage with the program, its shared libraries and the trusted
# certificates. The runtime stage has no shell and no package manager and does not run as root.
#
#   docker build -t marqueue .
#   podman build --format docker -t marqueue .        # podman's own format has no HEALTHCHECK
ARG BUILD_IMAGE=rust:1-slim-bookworm
ARG RUNTIME_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin marqueue --config 'profile.release.strip="symbols"'
# The program with the libraries that ldd lists, in a tree of its own.
RUN set -eu; \
    mkdir -p /image/usr/bin /image/etc/ssl/certs /image/tmp /image/var/lib /image/run /owned; \
    cp target/release/marqueue /image/usr/bin/; \
    ldd target/release/marqueue | grep -o '/[^ ]*' | while read -r library; do \
        mkdir -p "/image$(dirname "$library")"; \
        cp -L "$library" "/image$library"; \
    done; \
    cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    echo 'marqueue:x:10001:10001::/var/lib/marqueue:/nonexistent' > /image/etc/passwd; \
    echo 'marqueue:x:10001:' > /image/etc/group; \
    chmod 1777 /image/tmp

FROM ${RUNTIME_IMAGE}
COPY --from=build /image /
# Not every builder keeps the owner of files copied from a stage.
COPY --from=build --chown=10001:10001 /owned /var/lib/marqueue
COPY --from=build --chown=10001:10001 /owned /run/marqueue
# Every key can be set by the environment, such as MARQUEUE_INSTANCES__DEFAULT__BASE_URL.
ENV MARQUEUE_STORE__PATH=/var/lib/marqueue/marqueue.db \
    MARQUEUE_API__SOCKET=/run/marqueue/marqueue.sock \
    MARQUEUE_SOCKET=/run/marqueue/marqueue.sock
USER 10001:10001
WORKDIR /var/lib/marqueue
# The database. Mount the socket's folder separately to give clients access.
VOLUME /var/lib/marqueue
# The check is a request to the daemon, like that of any client.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/usr/bin/marqueue", "health"]
# On a stop the daemon finishes uploads under way, so allow 90 seconds (docker stop -t 90, stop_grace_period in
# compose.yaml).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/marqueue"]
CMD ["serve"]
