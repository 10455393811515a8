# Duologue in a container: one static binary, the TLS root certificates, and nothing else.
#
#   docker build -t duologue .
#   docker run --rm -p 127.0.0.1:8000:8000 -v duologue:/data --stop-timeout 40 \
#     -e DUOLOGUE_AUTH__ALLOW_ANONYMOUS=true duologue
#
# This disables authentication, which is only for a port that no other machine reaches, as above. Otherwise
# configure it: -e DUOLOGUE_AUTH__MODE=supabase -e SUPABASE_URL, or as in docs/deploy.md. Without either the
# server does not start.
#
# The server lets running answers finish, which takes 30 seconds at most, hence the stop timeout.

# The minimum `rust-version` of Cargo.toml, on a Debian that has a C compiler for musl.
FROM rust:1.95-bookworm AS build

# SQLite, the allocator and TLS are C, compiled for musl too.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates musl-tools \
    && rm -rf /var/lib/apt/lists/*

# For the image's own toolchain, which is used because .dockerignore keeps rust-toolchain.toml out.
RUN rustup target add "$(uname -m)-unknown-linux-musl"

WORKDIR /source
COPY . .

# The caches are outside the image, so that the next build compiles only what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    target="$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --target "$target" --package duologue-server --bin duologue \
    && mkdir -p /image/data \
    && cp "target/$target/release/duologue" /image/duologue

FROM scratch

COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/duologue /duologue
# The only folder that the server may write to. A new volume mounted here inherits its owner.
COPY --from=build --chown=65532:65532 /image/data /data

# An unprivileged user; a number, since the image has no list of users.
USER 65532:65532
WORKDIR /data

# In a container, loopback is not reachable from outside.
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000

HEALTHCHECK --interval=15s --timeout=3s --start-period=10s --retries=3 CMD ["/duologue", "health"]
ENTRYPOINT ["/duologue"]
CMD ["serve"]
